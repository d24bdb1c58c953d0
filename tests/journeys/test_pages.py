"""The pages we serve, in a real browser: they work, and no byte comes from another host."""

from pathlib import Path
from uuid import uuid4

import httpx

from tests.support.api import PASSWORD, ApiClient
from tests.support.browser import Page, browser_page
from tests.support.stack import RunningStack

#: The answer's pane of GraphiQL.
RESULT = "document.querySelector('.result-window').innerText"
CREATE_JOB = """
mutation { createEmbeddingJob(input: { texts: ["a page"] }) { ... on EmbeddingJobPayload { job { id } } } }
"""
STATE = "... on JobStateChanged { state }"
RUN = "document.querySelector('.graphiql-execute-button').click()"


async def sign_up(url: str) -> tuple[str, ApiClient]:
    """Make an account and return its address and a client with a session."""
    credentials = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD}
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        (await http.post("/v1/users", json=credentials)).raise_for_status()
        session = (await http.post("/v1/sessions", json=credentials)).raise_for_status().json()
    return credentials["email"], ApiClient(url, session["token"])


async def fill_in(page: Page, selector: str, text: str) -> None:
    """Type into a field as a person would."""
    await page.run(f"document.querySelector({selector!r}).focus()")
    await page.type(text)


async def ask(page: Page, operation: str) -> None:
    """Write a named operation into GraphiQL's editor and run it."""
    editor = "document.querySelector('.graphiql-query-editor .CodeMirror').CodeMirror"
    await page.run(f"{editor}.setValue({operation!r})")
    # It reads the text some time later, and shows that it has by what it keeps of its tabs.
    name = operation.split()[1]
    await page.see(f"""(localStorage["graphiql:tabState"] || "").includes('"operationName":"{name}"')""")
    await page.run(RUN)


async def test_graphiql_logs_in_and_asks_without_leaving_this_host(
    stack: RunningStack, tmp_path: Path
) -> None:
    email, user = await sign_up(stack.url)
    job = (await user.graphql(CREATE_JOB))["createEmbeddingJob"]["job"]["id"]
    await user.close()
    async with browser_page(tmp_path) as page:
        await page.open(f"{stack.url}/graphql")
        await page.see("document.querySelector('.graphiql-execute-button')")

        await page.run(RUN)
        await page.see(f"{RESULT}.includes('UNAUTHENTICATED')")

        await fill_in(page, "input[name=email]", email)
        await fill_in(page, "input[name=password]", PASSWORD)
        await page.run("document.querySelector('#log-in button').click()")
        await page.see("document.querySelector('#status').innerText.startsWith('Logged in')")
        await ask(page, "query Viewer { viewer { email } pipelines { edges { node { name } } } }")
        await page.see(f"{RESULT}.includes({email!r})")

        # Nothing but the cookie of the socket's handshake says whose job it is.
        await ask(page, f'subscription Follow {{ embeddingJobEvents(jobId: "{job}") {{ {STATE} }} }}')
        await page.see(f"{RESULT}.includes('SUCCEEDED')")

        assert any(asked.startswith("ws://") for asked in page.requests)
        assert [] == page.foreign_requests(stack.url)
        assert [] == page.complaints


async def test_graphiql_takes_a_pasted_key(stack: RunningStack, tmp_path: Path) -> None:
    email, user = await sign_up(stack.url)
    await user.close()
    async with browser_page(tmp_path) as page:
        await page.open(f"{stack.url}/graphql")
        await page.see("document.querySelector('.graphiql-execute-button')")

        await fill_in(page, "#key", user.secret)
        await page.run("document.activeElement.blur()")
        await ask(page, "query Viewer { viewer { email } }")
        await page.see(f"{RESULT}.includes({email!r})")

        assert [] == page.foreign_requests(stack.url)
        assert [] == page.complaints
        assert user.secret not in await page.run("JSON.stringify({...localStorage, ...sessionStorage})")


async def test_the_rest_page_shows_every_route_without_leaving_this_host(
    stack: RunningStack, tmp_path: Path
) -> None:
    async with browser_page(tmp_path) as page:
        await page.open(f"{stack.url}/schema")
        await page.see("document.querySelectorAll('.opblock').length > 10")

        assert "/v1/embeddings" in await page.run("document.body.innerText")
        assert [] == page.foreign_requests(stack.url)
        assert [] == page.complaints
