"""Saying which pipelines this worker hosts."""

from collections.abc import Iterable

from bus import subjects
from bus.messages import HostedPipeline, PipelinesAnnounced
from bus.port import Bus
from workers.announcing import ANNOUNCE_EVERY_S, Announcing
from workers.embed.pipelines.table import PipelineEntry


def hosted_pipelines(entries: Iterable[PipelineEntry], pool: str) -> list[HostedPipeline]:
    """Say of the table's entries what others need to know."""
    return [
        HostedPipeline(
            name=entry.name,
            version=entry.version,
            modality=entry.modality,
            dimension=entry.dimension,
            pool=pool,
            max_tokens=entry.max_tokens,
            auto_rank=entry.auto_rank,
            description=entry.description,
        )
        for entry in entries
    ]


class Announcer(Announcing):
    """Announces a worker's pipelines from `start` to `leave`."""

    told_on = subjects.PIPELINES_ANNOUNCED
    wanted_on = subjects.PIPELINES_WANTED

    def __init__(
        self,
        bus: Bus,
        worker_id: str,
        pipelines: list[HostedPipeline],
        *,
        models_pool: str | None = None,
        every_s: float = ANNOUNCE_EVERY_S,
    ) -> None:
        """Nothing is said yet.

        Args:
            bus: where it is said.
            worker_id: who says it.
            pipelines: what is hosted.
            models_pool: the pool for which deployed models are loaded, if any.
            every_s: seconds between two announcements.
        """
        super().__init__(bus, every_s=every_s)
        self._models_pool = models_pool
        self._worker_id = worker_id
        self._pipelines = pipelines

    def announcement(self, *, leaving: bool) -> PipelinesAnnounced:
        """What is hosted."""
        return PipelinesAnnounced(
            worker_id=self._worker_id,
            pipelines=self._pipelines,
            leaving=leaving,
            models_pool=self._models_pool,
        )
