"""A pool whose operator takes its process with it: loaded in processes that may die."""

import os
import time
from collections.abc import Mapping, Sequence

import numpy as np

from tests.workers.toys import DIMENSION
from workers.embed.hosting import Pipeline
from workers.embed.items import Matrix, Prepared, Refusal

DEADLY = "deadly"
SLOW = "slow"
ENDLESS = "endless"
EXIT_CODE = 66


class PoisonPipeline:
    """Embeds a text as its length, its first letter and 1.

    It ends its process on `DEADLY`, rests on `SLOW` and hangs on `ENDLESS`.
    """

    dimension = DIMENSION

    def prepare_texts(self, texts: Sequence[str]) -> list[Prepared | Refusal]:
        """Refuse texts that begin with a question mark."""
        return [
            Refusal("INVALID_INPUT", "no questions")
            if text.startswith("?")
            else Prepared(text, len(text), tokens=len(text))
            for text in texts
        ]

    def prepare_bytes(self, data: bytes, media_type: str) -> Prepared | Refusal:
        """Take bytes for text."""
        return self.prepare_texts([f"{media_type} {data.decode()}"])[0]

    def run(self, payloads: Sequence[object]) -> Matrix:
        """Embed, or die."""
        texts = [str(payload) for payload in payloads]
        print("a library that prints")  # noqa: T201 - as some do
        if any(DEADLY in text for text in texts):
            os._exit(EXIT_CODE)
        if any(ENDLESS in text for text in texts):
            time.sleep(60)
        time.sleep(0.05 * sum(SLOW in text for text in texts))
        return np.array([[len(text), ord(text[0]), 1] for text in texts], dtype=np.float32)


def load(name: str, options: Mapping[str, int | str]) -> dict[str, Pipeline]:
    """Load the pool: one pipeline."""
    if options.get("broken"):
        raise ImportError("the weights are not installed")
    return {"toy": PoisonPipeline()} if name == "toy" else {}
