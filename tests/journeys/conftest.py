"""What journeys share: a user of the running stack."""

from collections.abc import AsyncIterator

import pytest

from tests.support.api import ApiClient
from tests.support.stack import RunningStack


@pytest.fixture
async def user(stack: RunningStack) -> AsyncIterator[ApiClient]:
    """Somebody who has just signed up and made a key."""
    client = await ApiClient.sign_up(stack.url)
    yield client
    await client.close()
