"""A worker that also embeds with models that were deployed."""

import numpy as np

from bus import subjects
from bus.messages import EmbedNow, PipelinesAnnounced, TextInput, VectorsComputed
from tests.support.embedding import EmbedWorker, vector_of


class ModelWorker(EmbedWorker):
    """Embeds with deployed models, too: each gives vectors of its own."""

    async def announce(self, *, leaving: bool = False) -> None:
        """Say what it hosts, and where it loads models."""
        announced = PipelinesAnnounced(
            worker_id="w1", pipelines=list(self.pipelines), leaving=leaving, models_pool="default"
        )
        await self.bus.tell(subjects.PIPELINES_ANNOUNCED, announced)

    def answers(self, command: EmbedNow) -> list[VectorsComputed]:
        """What it says to a command."""
        model = command.model
        if model is None:
            return super().answers(command)
        texts = [item.text for item in command.inputs if isinstance(item, TextInput)]
        rows = [vector_of(model.model_id + text, model.dimension) for text in texts]
        answer = VectorsComputed(
            request_id=command.request_id,
            first_index=0,
            count=len(rows),
            dimension=model.dimension,
            vectors=np.asarray(rows, dtype="<f4").tobytes(),
            truncated=[False] * len(rows),
            tokens=[1] * len(rows),
        )
        return [answer]
