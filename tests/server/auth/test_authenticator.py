"""From tokens to principals, and when they were last used."""

import pytest

from server.auth.activity import Activity
from server.auth.api_keys import ApiKeys
from server.auth.authenticator import Authenticator
from server.auth.principal import CredentialKind, Principal, Scope
from server.auth.sessions import Sessions
from server.auth.tokens import TokenKind, new_token
from server.database import Database, DatabaseUnavailable
from server.errors import Forbidden, Unauthenticated
from tests.support.accounts import Enter
from tests.support.waiting import until_true


async def test_a_session_holds_every_scope(owner: Principal) -> None:
    assert (CredentialKind.SESSION, set(Scope)) == (owner.kind, owner.scopes)
    owner.require(Scope.ADMIN)


def test_admin_stands_for_every_scope_and_nothing_else_does(owner: Principal) -> None:
    admin = Principal(
        user_id=owner.user_id,
        credential_id=owner.credential_id,
        kind=CredentialKind.API_KEY,
        scopes=frozenset({Scope.ADMIN}),
    )
    reader = Principal(
        user_id=owner.user_id,
        credential_id=owner.credential_id,
        kind=CredentialKind.API_KEY,
        scopes=frozenset({Scope.READ}),
    )

    admin.require(Scope.EMBED)
    reader.require(Scope.EMBED, Scope.READ)
    with pytest.raises(Forbidden, match="EMBED or TRAIN"):
        reader.require(Scope.EMBED, Scope.TRAIN)


@pytest.mark.parametrize("kind", TokenKind)
async def test_a_token_nobody_was_given_is_refused(authenticator: Authenticator, kind: TokenKind) -> None:
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(new_token(kind).secret)


async def test_a_malformed_token_is_refused_without_the_database(
    database: Database, authenticator: Authenticator
) -> None:
    await database.close()
    token = new_token(TokenKind.API_KEY).secret

    with pytest.raises(DatabaseUnavailable):
        await authenticator.authenticate(token)
    for malformed in ("", "x", token[:-1], token + "x", "\0", "twh_k_" + "0" * 33):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(malformed)


async def test_uses_are_written_by_the_batch(
    database: Database,
    activity: Activity,
    api_keys: ApiKeys,
    authenticator: Authenticator,
    sessions: Sessions,
    enter: Enter,
) -> None:
    done = await enter("a@b.example")
    owner = await authenticator.authenticate(done.token)
    made = await api_keys.create(owner, name="ci", scopes=[Scope.READ])
    await authenticator.authenticate(made.secret)
    await database.execute("UPDATE sessions SET last_seen_at = now() - interval '60 seconds'")

    await activity.flush()

    session = await sessions.get(done.user.id, done.session.id)
    key = await api_keys.get(done.user.id, made.api_key.id)
    assert (session.last_seen_at - done.session.last_seen_at).total_seconds() > -1
    assert key.last_used_at is not None


async def test_a_later_use_is_not_overwritten_by_an_earlier_one(
    database: Database, activity: Activity, owner: Principal
) -> None:
    await database.execute("UPDATE sessions SET last_seen_at = now() + interval '60 seconds'")

    await activity.flush()

    assert await database.fetch("SELECT 1 FROM sessions WHERE last_seen_at > now() + interval '50 seconds'")


async def test_what_cannot_be_written_is_kept(
    database_url: str, database: Database, owner: Principal
) -> None:
    away = await Database.open(database_url)
    activity = Activity(away)
    activity.note(owner)
    await away.close()

    with pytest.raises(DatabaseUnavailable):
        await activity.flush()

    activity._db = database
    await database.execute("UPDATE sessions SET last_seen_at = now() - interval '60 seconds'")
    await activity.flush()
    assert await database.fetch("SELECT 1 FROM sessions WHERE last_seen_at > now() - interval '30 seconds'")


async def test_activity_is_written_in_the_background_and_at_the_end(
    database: Database, activity: Activity, owner: Principal
) -> None:
    await database.execute("UPDATE sessions SET last_seen_at = now() - interval '60 seconds'")
    recently = "SELECT 1 FROM sessions WHERE last_seen_at > now() - interval '30 seconds'"

    activity.start()
    await until_true(lambda: database.fetch(recently))

    await database.execute("UPDATE sessions SET last_seen_at = now() - interval '60 seconds'")
    activity.note(owner)
    await activity.close()
    assert await database.fetch(recently)
