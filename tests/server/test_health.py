import asyncio

from litestar import Litestar
from litestar.di import Provide
from litestar.testing import AsyncTestClient

from server.health import Check, Health, HealthController
from server.telemetry import RequestTelemetry, Telemetry


def _app(telemetry: Telemetry, **checks: Check) -> Litestar:
    return Litestar(
        [HealthController],
        dependencies={
            "health": Provide(lambda: Health(checks), sync_to_thread=False),
            "telemetry": Provide(lambda: telemetry, sync_to_thread=False),
        },
        middleware=[lambda app: RequestTelemetry(app, meter=telemetry.meter)],
    )


async def _well() -> str | None:
    return None


async def _ill() -> str | None:
    return "no worker hosts a pipeline"


async def _stuck() -> str | None:
    await asyncio.Event().wait()
    return None


async def test_a_server_whose_parts_all_answer_is_ready() -> None:
    async with AsyncTestClient(_app(Telemetry(service="test"), database=_well, bus=_well)) as client:
        response = await client.get("/health/ready")

        assert (200, {"database": "ok", "bus": "ok"}) == (response.status_code, response.json())


async def test_one_failing_part_makes_the_server_not_ready_and_is_named() -> None:
    async with AsyncTestClient(_app(Telemetry(service="test"), database=_well, pools=_ill)) as client:
        response = await client.get("/health/ready")

        assert 503 == response.status_code
        assert {"database": "ok", "pools": "no worker hosts a pipeline"} == response.json()


async def test_a_part_that_never_answers_does_not_hang_the_probe() -> None:
    report = await asyncio.wait_for(Health({"bus": _stuck}).report(), timeout=10)

    assert {"bus": "no answer within 2 s"} == report


async def test_metrics_count_requests_by_route_and_status() -> None:
    telemetry = Telemetry(service="test")
    async with AsyncTestClient(_app(telemetry, bus=_ill)) as client:
        await client.get("/health/live")
        await client.get("/health/ready")
        await client.get("/nothing/here/42")
        text = (await client.get("/metrics")).text

    assert (
        'http_server_request_duration_seconds_count{http_request_method="GET",'
        'http_response_status_code="200",http_route="/health/live"} 1.0' in text
    )
    assert 'http_response_status_code="503",http_route="/health/ready"' in text
    assert "/nothing/here/42" not in text
