"""Telling every replica that a credential has ended."""

import logging
from collections.abc import Iterable
from uuid import UUID

from bus.errors import BusError
from bus.messages import AccessRevoked
from bus.port import Bus
from bus.subjects import ACCESS_REVOKED

SESSION_ENDED = "session ended"
API_KEY_REVOKED = "API key revoked"
API_KEY_EXPIRED = "API key expired"

_logger = logging.getLogger(__name__)


async def announce(bus: Bus, credential_ids: Iterable[UUID], reason: str) -> None:
    """Say that credentials have ended. Call it after the commit.

    The database has refused them since then. A lost announcement only means that their open sockets are
    found by the next sweep, so it fails nobody's request.
    """
    for credential_id in credential_ids:
        try:
            await bus.tell(ACCESS_REVOKED, AccessRevoked(credential_id=str(credential_id), reason=reason))
        except BusError:
            _logger.warning("could not announce that credential %s has ended", credential_id, exc_info=True)
