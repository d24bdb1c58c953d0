"""Whether this process lives, whether it can serve, and what it has counted."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE

from bus.errors import BusError
from bus.port import Bus
from bus.topology import GIVEN_UP, PROJECTION, embed_bulk, embed_interactive
from server.draining import LEAVING
from server.pipelines import Pipelines
from server.telemetry import Telemetry

#: Answers None when all is well, else one sentence on what is wrong.
Check = Callable[[], Awaitable[str | None]]

#: A check that takes longer than this counts as failed: a probe must not hang with what it probes.
_CHECK_TIMEOUT_S = 2.0


class Health:
    """Runs the readiness checks, each a real question to what it names."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = dict(checks)

    async def report(self) -> dict[str, str]:
        """Return ``ok`` or what is wrong, for each part this process depends on."""
        answers = await asyncio.gather(*(self._run(check) for check in self._checks.values()))
        return dict(zip(self._checks, answers, strict=True))

    @staticmethod
    async def _run(check: Check) -> str:
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT_S):
                return await check() or "ok"
        except TimeoutError:
            return f"no answer within {_CHECK_TIMEOUT_S:.0f} s"


def missing_streams(bus: Bus, pipelines: Pipelines) -> Check:
    """Check that the bus has what this server and the pools of all known workers pull from.

    A restart of a single NATS server empties its memory, and the stream of the interactive lane is in
    there. Servers bind and never create, so what is lost is named, with what puts it back.
    """

    async def check() -> str | None:
        pools = sorted({record.pool for record in await pipelines.list_available()})
        consumers = [
            PROJECTION,
            GIVEN_UP,
            *(name(pool) for pool in pools for name in (embed_bulk, embed_interactive)),
        ]
        try:
            missing = await bus.find_missing(consumers)
        except BusError as error:
            return f"the bus does not say which streams it has: {error}"
        if not missing:
            return None
        return f"the bus has lost, or never had, {', '.join(missing)}: run towhee-api bus apply"

    return check


class HealthController(Controller):
    """For orchestrators and Prometheus; needs no credential and tells nothing about users."""

    include_in_schema = False

    @get("/health/live", sync_to_thread=False)
    def live(self) -> dict[str, str]:
        """The event loop turns."""
        return {"status": "ok"}

    @get("/health/ready")
    async def ready(
        self, request: Request[Any, Any, Any], health: NamedDependency[Health]
    ) -> Response[dict[str, str]]:
        """The database, the bus and a pool of workers can be used from here, and this server stays."""
        report = await health.report()
        if request.scope["state"].get(LEAVING):
            report["server"] = "was told to stop, and takes no new clients"
        is_ready = all(answer == "ok" for answer in report.values())
        return Response(report, status_code=HTTP_200_OK if is_ready else HTTP_503_SERVICE_UNAVAILABLE)

    @get("/metrics", sync_to_thread=False)
    def metrics(self, telemetry: NamedDependency[Telemetry]) -> Response[bytes]:
        """Everything counted, in the Prometheus text format."""
        return Response(telemetry.render(), media_type="text/plain; version=0.0.4; charset=utf-8")
