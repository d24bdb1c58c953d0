"""Many subscribers of one job in a process of their own; prints how old each event was when it came to each.

python -m tests.support.watchers URL TOKEN NUM_SOCKETS < one JSON object: the payload of the subscription
"""

import asyncio
import sys
import time
from datetime import datetime

import orjson
import uvloop
import websockets

#: Doors are not stormed: sockets open this many at a time.
_AT_ONCE = 20


async def watch(url: str, token: str, payload: object, ages: list[list[float]]) -> None:
    """Follow a job to its end."""
    async with websockets.connect(
        url,
        subprotocols=["graphql-transport-ws"],  # type: ignore[list-item]
        compression=None,
        max_queue=None,
        proxy=None,
    ) as socket:
        init = {"type": "connection_init", "payload": {"authorization": f"Bearer {token}"}}
        await socket.send(orjson.dumps(init).decode())
        await socket.recv()
        await socket.send(orjson.dumps({"id": "1", "type": "subscribe", "payload": payload}).decode())
        number = 0
        async for raw in socket:
            now = time.time()
            message = orjson.loads(raw)
            if message["type"] == "complete":
                return
            if message["type"] == "ping":
                await socket.send('{"type":"pong"}')
                continue
            [event] = message["payload"]["data"].values()
            if number == len(ages):
                ages.append([])
            ages[number].append(now - datetime.fromisoformat(event["at"]).timestamp())
            number += 1
            if number == 1 and len(ages[0]) == ages_wanted(sys.argv):
                # All of them have seen the first event, and wait for more.
                sys.stdout.write("ready\n")
                sys.stdout.flush()


def ages_wanted(argv: list[str]) -> int:
    """Return how many subscribers there are to be."""
    return int(argv[3])


async def main() -> None:
    """Follow until the job has ended."""
    _, url, token, count = sys.argv
    payload = orjson.loads(sys.stdin.buffer.readline())
    ages: list[list[float]] = []
    door = asyncio.Semaphore(_AT_ONCE)

    async def enter() -> asyncio.Task[None]:
        async with door:
            task = asyncio.create_task(watch(url, token, payload, ages))
            await asyncio.sleep(0.05)
            return task

    tasks = await asyncio.gather(*(enter() for _ in range(int(count))))
    await asyncio.gather(*tasks)
    sys.stdout.buffer.write(orjson.dumps(ages) + b"\n")


if __name__ == "__main__":
    uvloop.run(main())
