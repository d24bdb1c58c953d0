"""API keys: made by a session, limited by scopes, ended by time or their owner."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from bus.port import Bus
from server.auth import api_keys as api_keys_module
from server.auth.api_keys import ApiKeys
from server.auth.authenticator import Authenticator
from server.auth.principal import CredentialKind, Principal, Scope
from server.database import Database
from server.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated
from server.records import PageRequest
from tests.server.auth.test_sessions import listen
from tests.support.accounts import Enter


async def test_a_key_carries_its_owner_and_its_scopes(
    api_keys: ApiKeys, authenticator: Authenticator, owner: Principal
) -> None:
    ends = datetime.now(UTC) + timedelta(days=1)
    made = await api_keys.create(
        owner, name="ci", scopes=[Scope.READ, Scope.EMBED, Scope.READ], expires_at=ends
    )

    principal = await authenticator.authenticate(made.secret)

    assert (owner.user_id, made.api_key.id, CredentialKind.API_KEY, {Scope.READ, Scope.EMBED}) == (
        principal.user_id,
        principal.credential_id,
        principal.kind,
        principal.scopes,
    )
    assert ("ci", ends, None, None) == (
        made.api_key.name,
        made.api_key.expires_at,
        made.api_key.last_used_at,
        made.api_key.revoked_at,
    )
    assert made.secret.startswith(made.api_key.prefix)
    assert made.secret not in repr(made)


async def test_the_secret_is_shown_once_and_not_kept(
    database: Database, api_keys: ApiKeys, owner: Principal
) -> None:
    made = await api_keys.create(owner, name="ci", scopes=[Scope.EMBED])

    [row] = await database.fetch("SELECT api_keys::text AS text FROM api_keys")

    assert made.secret not in row["text"]
    assert made.api_key == await api_keys.get(owner.user_id, made.api_key.id)


async def test_a_key_makes_keys_only_with_admin(
    api_keys: ApiKeys, authenticator: Authenticator, owner: Principal
) -> None:
    weak = await api_keys.create(owner, name="weak", scopes=[Scope.EMBED, Scope.TRAIN, Scope.READ])
    strong = await api_keys.create(owner, name="strong", scopes=[Scope.ADMIN])

    with pytest.raises(Forbidden, match="ADMIN"):
        await api_keys.create(await authenticator.authenticate(weak.secret), name="x", scopes=[Scope.READ])
    made = await api_keys.create(
        await authenticator.authenticate(strong.secret), name="x", scopes=[Scope.READ]
    )
    assert owner.user_id == made.api_key.user_id


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"name": ""}, ("name",)),
        ({"name": "x" * 101}, ("name",)),
        ({"name": "\0"}, ("name",)),
        ({"name": "\ud800"}, ("name",)),
        ({"scopes": []}, ("scopes",)),
        ({"expires_at": datetime.now(UTC)}, ("expires_at",)),
        ({"expires_at": datetime(2999, 1, 1)}, ("expires_at",)),  # noqa: DTZ001 - naive is the point
    ],
)
async def test_a_key_that_cannot_be_names_the_field(
    api_keys: ApiKeys, owner: Principal, change: dict[str, object], path: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await api_keys.create(owner, **({"name": "ci", "scopes": [Scope.READ]} | change))  # type: ignore[arg-type]

    assert path == refused.value.path


async def test_the_number_of_live_keys_is_bounded(
    monkeypatch: pytest.MonkeyPatch, api_keys: ApiKeys, owner: Principal
) -> None:
    monkeypatch.setattr(api_keys_module, "MAX_LIVE_KEYS", 2)
    first = await api_keys.create(owner, name="1", scopes=[Scope.READ])
    await api_keys.create(owner, name="2", scopes=[Scope.READ])

    with pytest.raises(Conflict):
        await api_keys.create(owner, name="3", scopes=[Scope.READ])

    await api_keys.revoke(owner, first.api_key.id)
    assert await api_keys.create(owner, name="3", scopes=[Scope.READ])


async def test_a_revoked_key_is_refused_at_once_and_announced_once(
    bus: Bus, api_keys: ApiKeys, authenticator: Authenticator, owner: Principal
) -> None:
    made = await api_keys.create(owner, name="ci", scopes=[Scope.READ])
    told = await listen(bus)

    revoked = await api_keys.revoke(owner, made.api_key.id)
    again = await api_keys.revoke(owner, made.api_key.id)

    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(made.secret)
    message = await asyncio.wait_for(told.get(), timeout=5)
    assert (str(made.api_key.id), "API key revoked") == (message.credential_id, message.reason)
    assert told.empty()
    assert revoked.revoked_at is not None
    assert revoked == again


async def test_a_key_revokes_itself_and_others_only_with_admin(
    api_keys: ApiKeys, authenticator: Authenticator, owner: Principal
) -> None:
    made = await api_keys.create(owner, name="ci", scopes=[Scope.EMBED])
    other = await api_keys.create(owner, name="other", scopes=[Scope.EMBED])
    key = await authenticator.authenticate(made.secret)

    with pytest.raises(Forbidden):
        await api_keys.revoke(key, other.api_key.id)
    await api_keys.revoke(key, made.api_key.id)

    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(made.secret)


async def test_an_expired_key_is_refused(
    database: Database, api_keys: ApiKeys, authenticator: Authenticator, owner: Principal
) -> None:
    ends = datetime.now(UTC) + timedelta(days=1)
    made = await api_keys.create(owner, name="ci", scopes=[Scope.READ], expires_at=ends)
    principal = await authenticator.authenticate(made.secret)
    await authenticator.verify(principal)

    await database.execute("UPDATE api_keys SET expires_at = now()")

    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(made.secret)
    with pytest.raises(Unauthenticated):
        await authenticator.verify(principal)


async def test_somebody_elses_key_is_not_found(
    api_keys: ApiKeys, authenticator: Authenticator, owner: Principal, enter: Enter
) -> None:
    stranger = await authenticator.authenticate((await enter("stranger@b.example")).token)
    made = await api_keys.create(owner, name="ci", scopes=[Scope.READ])

    for attempt in (
        api_keys.get(stranger.user_id, made.api_key.id),
        api_keys.revoke(stranger, made.api_key.id),
        api_keys.get(owner.user_id, uuid4()),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert [] == (await api_keys.page(stranger.user_id, PageRequest(first=10))).items
    assert await authenticator.authenticate(made.secret)


async def test_the_list_has_all_keys_newest_first(api_keys: ApiKeys, owner: Principal) -> None:
    first = await api_keys.create(owner, name="1", scopes=[Scope.READ])
    second = await api_keys.create(owner, name="2", scopes=[Scope.READ])
    revoked = await api_keys.revoke(owner, first.api_key.id)

    assert [second.api_key, revoked] == (await api_keys.page(owner.user_id, PageRequest(first=10))).items
