"""Two releases work side by side: what one of them does not know of the other's messages does no harm."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from tests.support.api import ApiClient
from tests.support.processes import until
from tests.support.script import ROOT, Script, make_script
from tests.support.servers import serving, wait_until_ready

PREVIOUS = (Path(__file__).parent / "previous").read_text().strip()
READY_S = 120.0
PIPELINE = "text-embedding-minilm"


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Script]:
    """The console script of the pinned release, in a worktree of its own."""
    directory = tmp_path_factory.mktemp("previous") / "tree"
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--detach", str(directory), PREVIOUS], check=True, capture_output=True)
    yield make_script(directory.parent / "towhee-api", directory)
    subprocess.run([*git, "remove", "--force", str(directory)], check=True, capture_output=True)


@asynccontextmanager
async def _working(script: Script, environ: dict[str, str], ready_file: Path) -> AsyncIterator[None]:
    """Run an embedding worker; it is ready inside, and drained at the end."""
    process = await asyncio.create_subprocess_exec(
        *script.argv,
        "work",
        "embed",
        env={
            **environ,
            "TOWHEE_API_WORKER_READY_FILE": str(ready_file),
            "TOWHEE_API_WORKER_PIPELINES": PIPELINE,
        },
    )
    try:
        await until(lambda: ready_file.exists() or process.returncode is not None, within_s=READY_S)
        assert process.returncode is None
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        assert 0 == await asyncio.wait_for(process.wait(), timeout=30)


async def _use(client: ApiClient) -> None:
    """Do at one server whatever goes over the bus."""
    # Texts that nobody has asked for before: no server has their vectors in its cache.
    texts = [f"{uuid4()} number {number}" for number in range(70)]
    async with asyncio.timeout(60):
        await wait_until_ready(client.http)
        called = await client.http.post("/v1/embeddings", json={"model": PIPELINE, "input": texts[:3]})
        job = (await client.http.post("/v1/jobs", json={"texts": texts})).raise_for_status().json()
        while job["state"] not in {"SUCCEEDED", "FAILED"}:
            await asyncio.sleep(0.05)
            job = (await client.http.get(f"/v1/jobs/{job['id']}")).raise_for_status().json()
        events = await client.http.get(job["events_url"], headers={"accept": "text/event-stream"})
        result = await client.http.get(job["result_url"])

    answered = np.array([row["embedding"] for row in called.raise_for_status().json()["data"]])
    vectors = np.load(BytesIO(result.raise_for_status().content), allow_pickle=False)
    assert ("SUCCEEDED", 70, 1) == (job["state"], job["completed_count"], job["attempt"])
    assert (70, 384) == vectors.shape
    np.testing.assert_allclose(answered, vectors[:3], atol=1e-5)
    assert "SUCCEEDED" in events.raise_for_status().text


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_servers_and_workers_of_two_releases_work_side_by_side(
    previous: Script, towhee_api: Script, database_url: str, nats_url: str, tmp_path: Path
) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database_url,
        "NATS_URL": nats_url,
        "OBJECT_STORE_URL": (tmp_path / "objects").as_uri(),
        "OMP_NUM_THREADS": "1",
    }
    # As in a rolling upgrade: what is shared is brought to the new release first.
    applied = await asyncio.to_thread(towhee_api.run, "bus", "apply", env=environ)
    assert 0 == applied.returncode, applied.stderr
    async with AsyncExitStack() as stack:
        async with _working(previous, environ, tmp_path / "old-worker"):
            urls = [
                await stack.enter_async_context(serving(script, environ)) for script in (previous, towhee_api)
            ]
            at_old = await ApiClient.sign_up(urls[0])
            at_new = at_old.at(urls[1])
            stack.push_async_callback(at_old.close)
            stack.push_async_callback(at_new.close)
            # The old worker, with the servers of both.
            await asyncio.gather(_use(at_old), _use(at_new))
        async with _working(towhee_api, environ, tmp_path / "new-worker"):
            await asyncio.gather(_use(at_old), _use(at_new))
