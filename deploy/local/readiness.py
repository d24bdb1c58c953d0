"""Ask the server on this machine whether it can serve."""

import asyncio
import http.client
import json

from deploy.local.keeper import Say

#: The server answers within 2 s, whatever is wrong with what it asks.
_TIMEOUT_S = 5.0
_POLL_S = 0.05


async def wait_until_ready(port: int, say: Say) -> None:
    """Return when ``/health/ready`` says yes; say what is missing whenever that changes."""
    said: dict[str, str] = {}
    while True:
        is_ready, report = await asyncio.to_thread(ask, port)
        if is_ready:
            return
        for part, answer in report.items():
            if answer != "ok" and said.get(part) != answer:
                say(f"waiting for {part}: {answer}")
        said = report
        await asyncio.sleep(_POLL_S)


def ask(port: int) -> tuple[bool, dict[str, str]]:
    """Return whether the server is ready, and its answer for each part; no answer is an empty one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/health/ready")
        response = connection.getresponse()
        report = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        return False, {}
    finally:
        connection.close()
    is_report = isinstance(report, dict) and all(isinstance(answer, str) for answer in report.values())
    return response.status == http.client.OK, report if is_report else {}
