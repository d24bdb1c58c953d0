"""What nats-py's client does not promise, and ours does."""

from collections.abc import AsyncIterator

import pytest
from nats.aio.msg import Msg

from bus.ordered_client import OrderedClient


@pytest.fixture
async def client(empty_nats_url: str) -> AsyncIterator[OrderedClient]:
    client = OrderedClient()
    await client.connect(empty_nats_url)
    yield client
    await client.close()


async def test_a_pong_comes_after_the_effect_of_all_that_was_sent_before_the_ping(
    client: OrderedClient,
) -> None:
    async def receive(_: Msg) -> None:
        return

    subscription = await client.subscribe("echo", cb=receive)
    for number in range(1, 101):
        await client.publish("echo", b"")
        await client.rtt()

        assert number == subscription.delivered
