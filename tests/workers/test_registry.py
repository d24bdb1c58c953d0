"""What a worker says about itself."""

from collections.abc import AsyncIterator

import pytest

from bus import subjects
from bus.envelope import Message
from bus.memory import MemoryBus
from bus.messages import AnnouncePipelines, HostedPipeline, PipelinesAnnounced
from tests.workers.rig import soon
from workers.embed.pipelines.table import PIPELINES
from workers.embed.registry import Announcer, hosted_pipelines

NEVER_S = 3600.0


class Listener:
    """A server that hears announcements."""

    def __init__(self) -> None:
        self.heard: list[PipelinesAnnounced] = []

    async def hear(self, message: Message) -> None:
        """Note an announcement."""
        assert isinstance(message, PipelinesAnnounced)
        self.heard.append(message)


@pytest.fixture
async def listener(bus: MemoryBus) -> AsyncIterator[Listener]:
    listener = Listener()
    following = await bus.follow(subjects.PIPELINES_ANNOUNCED, listener.hear)
    yield listener
    await following.close()


async def test_a_worker_announces_itself_at_once_and_again_and_again(
    bus: MemoryBus, listener: Listener
) -> None:
    announcer = Announcer(bus, "worker-1", [], every_s=0.01)
    await announcer.start()
    await soon(lambda: len(listener.heard) >= 3)
    await announcer.leave()
    assert {"worker-1"} == {message.worker_id for message in listener.heard}


async def test_a_worker_announces_itself_when_asked(bus: MemoryBus, listener: Listener) -> None:
    announcer = Announcer(bus, "worker-1", [], every_s=NEVER_S)
    await announcer.start()
    await soon(lambda: len(listener.heard) == 1)

    await bus.tell(subjects.PIPELINES_WANTED, AnnouncePipelines())

    await soon(lambda: len(listener.heard) == 2)
    await announcer.leave()


async def test_leaving_is_the_last_word(bus: MemoryBus, listener: Listener) -> None:
    announcer = Announcer(bus, "worker-1", [], every_s=0.01)
    await announcer.start()
    await announcer.leave()
    await bus.tell(subjects.PIPELINES_WANTED, AnnouncePipelines())

    await soon(lambda: listener.heard[-1:] and listener.heard[-1].leaving)
    assert [True] == [message.leaving for message in listener.heard if message.leaving]


def test_auto_has_one_first_choice_a_modality() -> None:
    hosted = {pipeline.name: pipeline for pipeline in hosted_pipelines(PIPELINES, "default")}
    ranks = {name: (pipeline.modality, pipeline.auto_rank) for name, pipeline in hosted.items()}
    assert {
        "text-embedding-minilm": ("TEXT", 0),
        "image-embedding-efficientnet-lite0": ("IMAGE", 0),
        "text_image_embedding": ("TEXT", None),
    } == ranks
    assert (
        HostedPipeline(
            name="text-embedding-minilm",
            version="1",
            modality="TEXT",
            dimension=384,
            pool="default",
            max_tokens=256,
            auto_rank=0,
            description=hosted["text-embedding-minilm"].description,
        )
        == hosted["text-embedding-minilm"]
    )
