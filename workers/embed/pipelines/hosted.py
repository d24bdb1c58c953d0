"""A built Towhee pipeline, or a model, with the preparing that goes before it: what the engine runs."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from workers.embed.items import Matrix, Prepared, Refusal

#: Embeds a batch given as one value: a pipeline of Towhee's, or a model by itself.
Embed = Callable[[Sequence[object]], object]

#: What every text begins with that was saved by a certain editor; it is no part of the text.
_BYTE_ORDER_MARK = "\ufeff"


class TextOperator(Protocol):
    """Prepares texts and embeds what it prepared."""

    def prepare(self, texts: Sequence[str]) -> list[Prepared | Refusal]:
        """Tokenise."""


class ImageOperator(Protocol):
    """Prepares pictures and embeds what it prepared."""

    def prepare(self, data: bytes) -> Prepared:
        """Decode; raises `Refusal`."""


class _Hosted:
    def __init__(self, embed: Embed, dimension: int) -> None:
        self.dimension = dimension
        self._embed = embed

    def run(self, payloads: Sequence[object]) -> Matrix:
        """Pass the batch on as one value."""
        return np.asarray(self._embed(payloads), dtype=np.float32)


class HostedText(_Hosted):
    """A pipeline of texts. Files are taken when they are UTF-8."""

    def __init__(self, embed: Embed, dimension: int, operator: TextOperator) -> None:
        super().__init__(embed, dimension)
        self._operator = operator

    def prepare_texts(self, texts: Sequence[str]) -> list[Prepared | Refusal]:
        """Tokenise."""
        return self._operator.prepare(texts)

    def prepare_bytes(self, data: bytes, media_type: str) -> Prepared | Refusal:
        """Tokenise the text of a file."""
        if not media_type.startswith("text/"):
            return Refusal("UNSUPPORTED_MEDIA", f"The pipeline embeds text, and the file is {media_type}.")
        try:
            text = data.decode("utf-8").removeprefix(_BYTE_ORDER_MARK)
        except UnicodeDecodeError as error:
            return Refusal("INVALID_INPUT", f"The text is not UTF-8: byte {error.start} can't be read.")
        return self._operator.prepare([text])[0]


class HostedImage(_Hosted):
    """A pipeline of pictures."""

    def __init__(self, embed: Embed, dimension: int, operator: ImageOperator) -> None:
        super().__init__(embed, dimension)
        self._operator = operator

    def prepare_texts(self, texts: Sequence[str]) -> list[Prepared | Refusal]:
        """Refuse: there is nothing to see."""
        return [Refusal("UNSUPPORTED_MEDIA", "The pipeline embeds images, not text.") for _ in texts]

    def prepare_bytes(self, data: bytes, media_type: str) -> Prepared | Refusal:
        """Decode a picture. Its bytes say what it is; ``media_type`` only names it where it is refused."""
        if not media_type.startswith("image/"):
            return Refusal("UNSUPPORTED_MEDIA", f"The pipeline embeds images, and the file is {media_type}.")
        try:
            return self._operator.prepare(data)
        except Refusal as refusal:
            return refusal
