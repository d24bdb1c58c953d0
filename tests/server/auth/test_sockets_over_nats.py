"""The walk of a revoked key over a real bus: two replicas, one revocation, both close within a second."""

import asyncio
import time

from bus.client import NatsBus
from server.auth.activity import Activity
from server.auth.api_keys import ApiKeys
from server.auth.authenticator import Authenticator
from server.auth.principal import Principal, Scope
from server.auth.sockets import SocketRegistry
from server.database import Database
from tests.server.auth.test_sockets import FakeSocket


async def test_a_revoked_key_closes_its_sockets_on_every_replica_within_a_second(
    nats_url: str,
    database: Database,
    authenticator: Authenticator,
    activity: Activity,
    owner: Principal,
) -> None:
    buses = [await NatsBus.connect(nats_url, name=f"replica-{number}") for number in range(2)]
    registries = [SocketRegistry(bus, authenticator, activity) for bus in buses]
    api_keys = ApiKeys(database, buses[0])
    made = await api_keys.create(owner, name="ci", scopes=[Scope.READ])
    key = await authenticator.authenticate(made.secret)
    sockets = [FakeSocket(), FakeSocket()]
    for registry, socket in zip(registries, sockets, strict=True):
        await registry.start()
        await registry.admit(key, socket.close)

    started_at = time.monotonic()
    await api_keys.revoke(owner, made.api_key.id)
    closings = await asyncio.gather(*(socket.wait() for socket in sockets))

    assert time.monotonic() - started_at < 1.0
    assert [[(4403, "API key revoked")]] * 2 == closings
    for registry, bus in zip(registries, buses, strict=True):
        await registry.close()
        await bus.close()
