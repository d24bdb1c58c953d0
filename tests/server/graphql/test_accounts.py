"""Signing up, in and out, and API keys."""

import asyncio

import httpx

from server.auth.cookies import CSRF_HEADER, cookie_name
from tests.support.graphql import LOG_IN, PASSWORD, SIGN_UP, GraphQLClient

CREATE_KEY = """
mutation Create($scopes: [Scope!]!, $name: String = "test", $expiresAt: DateTime) {
  createApiKey(input: { name: $name, scopes: $scopes, expiresAt: $expiresAt }) {
    __typename
    ... on CreateApiKeyPayload { secret apiKey { id name prefix scopes expiresAt revokedAt } }
    ... on Error { code message path }
  }
}
"""
REVOKE_KEY = """
mutation Revoke($id: ID!) {
  revokeApiKey(input: { apiKeyId: $id }) {
    __typename
    ... on RevokeApiKeyPayload { apiKey { id revokedAt } }
    ... on Error { code message path }
  }
}
"""
LOG_OUT = "mutation { logOut { __typename ... on LogOutPayload { ok } ... on Error { code } } }"
VIEWER = "{ viewer { email } }"


async def create_key(owner: GraphQLClient, *scopes: str) -> tuple[str, GraphQLClient]:
    """Make a key and return its id and a client that uses it."""
    created = (await owner.data(CREATE_KEY, scopes=list(scopes)))["createApiKey"]
    return created["apiKey"]["id"], owner.acting_as(created["secret"])


async def test_a_new_account_can_be_used_at_once(ada: GraphQLClient) -> None:
    data = await ada.data(
        "{ viewer { email sessions(first: 1) { edges { node { isCurrent deviceName } } } } }"
    )

    sessions = {"edges": [{"node": {"isCurrent": True, "deviceName": "test"}}]}
    assert {"email": "ada@example.com", "sessions": sessions} == data["viewer"]


async def test_nobody_is_no_viewer_and_no_error(anybody: GraphQLClient) -> None:
    assert {"viewer": None} == await anybody.data(VIEWER)


async def test_what_sign_up_refuses_is_data(ada: GraphQLClient) -> None:
    refused = [
        ("nobody", PASSWORD, "InvalidInput", ["input", "email"]),
        ("a\0b@example.com", PASSWORD, "InvalidInput", ["input", "email"]),
        ("new@example.com", "short", "InvalidInput", ["input", "password"]),
        ("new@example.com", "a\ud800" * 20, "InvalidInput", ["input", "password"]),
        ("ADA@example.com", PASSWORD, "Conflict", ["input", "email"]),
    ]

    for email, password, typename, path in refused:
        result = (await ada.data(SIGN_UP, email=email, password=password))["signUp"]
        assert (typename, path) == (result["__typename"], result["path"]), email


async def test_a_wrong_password_and_an_unknown_address_get_one_answer(ada: GraphQLClient) -> None:
    wrong = await ada.data(LOG_IN, email="ada@example.com", password=PASSWORD + "!")
    unknown = await ada.data(LOG_IN, email="nobody@example.com", password=PASSWORD)

    assert wrong == unknown
    assert "INVALID_CREDENTIALS" == wrong["logIn"]["code"]


async def test_log_in_sets_a_cookie_and_log_out_takes_it_away(
    anybody: GraphQLClient, ada: GraphQLClient
) -> None:
    body = {"query": LOG_IN, "variables": {"email": "ada@example.com", "password": PASSWORD}}
    response = await anybody.http.post("/graphql", json=body)
    token = response.json()["data"]["logIn"]["token"]
    attributes = response.headers["set-cookie"].lower()

    assert token == response.cookies[cookie_name(secure=False)]
    assert "httponly" in attributes
    assert "samesite=strict" in attributes

    with_header = {CSRF_HEADER: "test"}
    viewer = await anybody.http.post("/graphql", json={"query": VIEWER}, headers=with_header)
    out = await anybody.http.post("/graphql", json={"query": LOG_OUT}, headers=with_header)

    assert {"viewer": {"email": "ada@example.com"}} == viewer.json()["data"]
    assert "max-age=0" in out.headers["set-cookie"].lower()
    assert "UNAUTHENTICATED" == (await ada.acting_as(token).refusal(VIEWER))["code"]


async def test_a_cookie_without_the_header_counts_for_nothing(ada: GraphQLClient) -> None:
    cookies = {cookie_name(secure=False): ada.token or ""}

    async with httpx.AsyncClient(base_url=ada.url, cookies=cookies) as browser:
        response = await browser.post("/graphql", json={"query": VIEWER})

    assert {"viewer": None} == response.json()["data"]


async def test_concurrent_log_ins_do_not_mix_their_cookies(anybody: GraphQLClient) -> None:
    emails = [f"user{number}@example.com" for number in range(4)]
    for email in emails:
        await anybody.sign_up(email)

    async def log_in(email: str) -> tuple[str, str, str]:
        body = {"query": LOG_IN, "variables": {"email": email, "password": PASSWORD}}
        async with httpx.AsyncClient(base_url=anybody.url, timeout=30) as browser:
            response = await browser.post("/graphql", json=body)
        result = response.json()["data"]["logIn"]
        return result["user"]["email"], result["token"], response.cookies[cookie_name(secure=False)]

    answers = await asyncio.gather(*(log_in(email) for email in emails * 3))

    assert emails * 3 == [email for email, _, _ in answers]
    assert all(token == cookie for _, token, cookie in answers)
    assert len(answers) == len({token for _, token, _ in answers})


async def test_a_stale_credential_does_not_keep_its_owner_from_logging_in(ada: GraphQLClient) -> None:
    stale = ada.acting_as("twh_session_nonsense")

    result = await stale.data(LOG_IN, email="ada@example.com", password=PASSWORD)

    assert "LogInPayload" == result["logIn"]["__typename"]
    assert "UNAUTHENTICATED" == (await stale.refusal(VIEWER))["code"]


async def test_a_secret_is_shown_once_and_works(ada: GraphQLClient) -> None:
    key_id, key = await create_key(ada, "READ")

    assert {"viewer": {"email": "ada@example.com"}} == await key.data(VIEWER)
    listed = await key.data("{ viewer { apiKeys(first: 5) { edges { node { id scopes name } } } } }")
    assert [{"node": {"id": key_id, "scopes": ["READ"], "name": "test"}}] == listed["viewer"]["apiKeys"][
        "edges"
    ]
    assert (key.token or "") not in str(
        await key.data("{ viewer { apiKeys(first: 5) { edges { node { prefix } } } } }")
    )


async def test_a_revoked_key_is_refused_at_once(ada: GraphQLClient) -> None:
    key_id, key = await create_key(ada, "READ")

    revoked = (await ada.data(REVOKE_KEY, id=key_id))["revokeApiKey"]

    assert key_id == revoked["apiKey"]["id"]
    assert revoked["apiKey"]["revokedAt"]
    assert "UNAUTHENTICATED" == (await key.refusal(VIEWER))["code"]


async def test_a_key_without_admin_makes_no_keys_and_revokes_none(ada: GraphQLClient) -> None:
    _, key = await create_key(ada, "EMBED", "READ", "TRAIN")
    key_id, _ = await create_key(ada, "READ")

    assert "FORBIDDEN" == (await key.data(CREATE_KEY, scopes=["READ"]))["createApiKey"]["code"]
    assert "FORBIDDEN" == (await key.data(REVOKE_KEY, id=key_id))["revokeApiKey"]["code"]


async def test_somebody_elses_key_is_not_there(ada: GraphQLClient, bob: GraphQLClient) -> None:
    key_id, key = await create_key(ada, "READ")

    refused = (await bob.data(REVOKE_KEY, id=key_id))["revokeApiKey"]

    assert "NOT_FOUND" == refused["code"]
    assert {"viewer": {"email": "ada@example.com"}} == await key.data(VIEWER)


async def test_a_key_needs_a_name_that_can_be_stored(ada: GraphQLClient) -> None:
    for name in ("", " ", "a\0", "\ud800", "x" * 1000):
        refused = (await ada.data(CREATE_KEY, scopes=["READ"], name=name))["createApiKey"]
        assert ("INVALID_INPUT", ["input", "name"]) == (refused["code"], refused["path"])


async def test_an_api_key_is_no_session_to_log_out_of(ada: GraphQLClient) -> None:
    _, key = await create_key(ada, "ADMIN")

    assert {"logOut": {"__typename": "Forbidden", "code": "FORBIDDEN"}} == await key.data(LOG_OUT)


async def test_who_has_not_signed_in_is_told_so_on_top_level(shell: GraphQLClient) -> None:
    operations = [
        'mutation { createApiKey(input: { name: "a", scopes: [READ] }) { __typename } }',
        'mutation { revokeApiKey(input: { apiKeyId: "a" }) { __typename } }',
        'mutation { embed(input: { texts: ["a"] }) { __typename } }',
        'mutation { createEmbeddingJob(input: { texts: ["a"] }) { __typename } }',
        "mutation { logOut { __typename } }",
        '{ node(id: "a") { id } }',
        '{ nodes(ids: ["a"]) { id } }',
        "{ pipelines { edges { cursor } } }",
        '{ pipeline(name: "a") { id } }',
        '{ selectPipeline(fileId: "a") { reason } }',
    ]

    for operation in operations:
        assert "UNAUTHENTICATED" == (await shell.refusal(operation))["code"], operation


async def test_another_accounts_lists_are_not_for_this_credential(
    ada: GraphQLClient, bob: GraphQLClient
) -> None:
    query = """
    mutation { logIn(input: { email: "bob@example.com", password: "%s" }) {
      ... on LogInPayload { user { email files { totalCount } } } } }
    """

    answer = await ada.send(query % PASSWORD)

    assert ["FORBIDDEN"] == [error["extensions"]["code"] for error in answer["errors"]]
