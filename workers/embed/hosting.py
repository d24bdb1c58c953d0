"""What the engine asks of a pipeline, whoever built it."""

from collections.abc import Sequence
from typing import Protocol

from workers.embed.items import Matrix, Prepared, Refusal


class Pipeline(Protocol):
    """One hosted pipeline. Preparing happens on several threads, running on one."""

    @property
    def dimension(self) -> int:
        """Length of its vectors."""

    def prepare_texts(self, texts: Sequence[str]) -> list[Prepared | Refusal]:
        """Make texts ready for a batch, or say why not."""

    def prepare_bytes(self, data: bytes, media_type: str) -> Prepared | Refusal:
        """Make a file ready for a batch, or say why not."""

    def run(self, payloads: Sequence[object]) -> Matrix:
        """Embed a batch: (len(payloads), dimension), unit length. Any exception means that it failed."""
