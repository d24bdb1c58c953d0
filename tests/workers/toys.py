"""A real Towhee pipeline around an operator that a test controls."""

import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import count

import numpy as np

from workers.embed.engine import Engine, EngineSettings
from workers.embed.hosting import Pipeline
from workers.embed.items import Matrix, Prepared, Refusal
from workers.towhee_door import TowheeDoor

StartEngine = Callable[[Mapping[str, Pipeline], EngineSettings], Engine]

_numbers = count()
DIMENSION = 3


class ToyPipeline:
    """Embeds a text as its length, its first letter and 1; the operator can be told to fail or to wait.

    ``batches`` holds what each run was given. ``gate`` is open at first; a closed gate holds the device.
    """

    def __init__(self, door: TowheeDoor, *, embed: Callable[[Sequence[str]], object] | None = None) -> None:
        name = f"toy-{next(_numbers)}"
        self.dimension = DIMENSION
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self._embed = embed or rows_of
        door.register(name, self._call)
        self._towhee = door.chain(name, [name])

    def prepare_texts(self, texts: Sequence[str]) -> list[Prepared | Refusal]:
        """Refuse texts that begin with a question mark; a token is a letter."""
        return [
            Refusal("INVALID_INPUT", "no questions")
            if text.startswith("?")
            else Prepared(text, len(text), tokens=len(text), truncated=text.endswith("…"))
            for text in texts
        ]

    def prepare_bytes(self, data: bytes, media_type: str) -> Prepared | Refusal:
        """Take bytes for text."""
        return self.prepare_texts([data.decode()])[0]

    def run(self, payloads: Sequence[object]) -> Matrix:
        """Pass the batch through Towhee."""
        return np.asarray(self._towhee(payloads), dtype=np.float32)

    def _call(self, texts: Sequence[str]) -> object:
        self.batches.append(list(texts))
        self.entered.release()
        assert self.gate.wait(10)
        return self._embed(texts)


def rows_of(texts: Sequence[str]) -> Matrix:
    """The rows a toy pipeline makes; it fails on any batch with ``poison`` in it."""
    if any("poison" in text for text in texts):
        raise ValueError("the operator can't stomach this")
    return np.array([[len(text), ord(text[0]), 1] for text in texts], dtype=np.float32)
