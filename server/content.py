"""What something is, judged by its bytes: magic numbers first, then a small model. Names are not trusted."""

import asyncio
import codecs
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import msgspec

from server.errors import Busy
from server.records import Modality
from server.signatures import CONTAINERS, Kind, find_binary, find_textual

if TYPE_CHECKING:
    from magika import Magika
    from magika.types import ContentTypeInfo

#: How much of a file the detector wants to see, in bytes.
HEAD_BYTES: Final = 64 * 1024
#: Files that may wait for the model at once; each holds up to HEAD_BYTES.
_MAX_WAITING: Final = 64
_UTF16_BOMS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_MODALITIES: Final = {
    "image": Modality.IMAGE,
    "audio": Modality.AUDIO,
    "video": Modality.VIDEO,
    "document": Modality.DOCUMENT,
}


class ContentType(msgspec.Struct, frozen=True, kw_only=True):
    """What some bytes are. ``modality`` is None for what no kind of pipeline could embed."""

    media_type: str
    modality: Modality | None
    #: How sure we are of ``media_type``, 0 to 1.
    confidence: float
    #: Why, as a sentence for a person.
    reason: str


class TextProbe:
    """Says whether bytes that come in chunks are UTF-8 text without NUL."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._is_text = True

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes; costs nothing once the answer is no."""
        if not self._is_text:
            return
        try:
            self._decoder.decode(chunk)
        except UnicodeDecodeError:
            self._is_text = False
        else:
            self._is_text = b"\0" not in chunk

    def is_text(self, *, whole: bool) -> bool:
        """Whether all of it was text so far; with ``whole``, no character may be cut off either."""
        pending = self._decoder.getstate()[0]
        return self._is_text and not (whole and pending)


class ContentDetector:
    """Identifies content. The model is loaded when it is first needed, in the one thread that runs it."""

    def __init__(self) -> None:
        # One thread: a call takes milliseconds, and uploads must not take the cores from the event loop.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="content")
        self._waiting = 0
        self._model: Magika | None = None

    async def identify(
        self, head: bytes, *, name: str, whole: bool, is_text: bool | None = None
    ) -> ContentType:
        """Say what the content is that starts with ``head``.

        Args:
            head: the first HEAD_BYTES, or all there is; at least one byte.
            name: what the sender calls it; only to say so when it misleads.
            whole: whether ``head`` is all there is.
            is_text: whether the whole content is UTF-8 without NUL, where that is known.

        Raises:
            Busy: too many files wait for the model.
        """
        if is_text is None:
            probe = TextProbe()
            probe.feed(head)
            is_text = probe.is_text(whole=whole)
        found = find_textual(head) if is_text else find_binary(head)
        if found is not None and found not in CONTAINERS:
            return _by_signature(found, name)
        if not is_text and head.startswith(_UTF16_BOMS):
            return ContentType(
                media_type="text/plain",
                modality=None,
                confidence=1.0,
                reason="It starts with the mark of UTF-16 text; texts are served in UTF-8 only.",
            )
        label, score = await self._ask_model(head)
        if is_text:
            return _text(label, score, name)
        return _by_model(label, score, found)

    def close(self) -> None:
        """Let the thread end when it has done what it does; whoever still waits for it is cancelled."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _ask_model(self, head: bytes) -> tuple["ContentTypeInfo", float]:
        if self._waiting >= _MAX_WAITING:
            raise Busy("Too many files are being looked at. Try again shortly.", retry_after_s=1.0)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._predict, head)
        finally:
            self._waiting -= 1

    def _predict(self, head: bytes) -> tuple["ContentTypeInfo", float]:
        if self._model is None:
            # The import loads onnxruntime (0.3 s and 60 MB): not before the first file needs it.
            from magika import Magika  # noqa: PLC0415

            self._model = Magika()
        prediction = self._model.identify_bytes(head).prediction
        return prediction.output, float(prediction.score)


def _by_signature(kind: Kind, name: str) -> ContentType:
    reason = f"Its first bytes are those of {kind.name}."
    return ContentType(
        media_type=kind.media_type,
        modality=kind.modality,
        confidence=1.0,
        reason=reason + _contradiction(kind.media_type, name),
    )


def _text(label: "ContentTypeInfo", score: float, name: str) -> ContentType:
    is_specific = label.is_text and str(label.label) not in {"txt", "unknown", "empty"}
    media_type = label.mime_type if is_specific else "text/plain"
    reason = "All of it is UTF-8 text without NUL bytes"
    if is_specific:
        reason += f"; its form is recognised as {label.description}"
    return ContentType(
        media_type=media_type,
        modality=Modality.TEXT,
        confidence=round(score, 4) if is_specific else 1.0,
        reason=f"{reason}.{_contradiction(media_type, name)}",
    )


def _by_model(label: "ContentTypeInfo", score: float, container: Kind | None) -> ContentType:
    known = str(label.label) not in {"unknown", "undefined", "empty"} and not label.is_text
    # Of what comes in a ZIP, only documents are worth more than the name of their container.
    if known and (container is None or label.group == "document"):
        return ContentType(
            media_type=label.mime_type,
            modality=_MODALITIES.get(label.group),
            confidence=round(score, 4),
            reason=f"Its content looks like {label.description}.",
        )
    if container is not None:
        return _by_signature(container, "")
    reason = "Its content is binary and of no format we recognise."
    if label.is_text:
        reason = (
            "It looks like text, but it is not UTF-8 or contains NUL bytes; texts are served in UTF-8 only."
        )
    return ContentType(
        media_type="application/octet-stream", modality=None, confidence=round(score, 4), reason=reason
    )


_EXTENSIONS: Final = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "pdf": "application/pdf",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "wav": "audio/wav",
    "zip": "application/zip",
}


def _contradiction(media_type: str, name: str) -> str:
    claimed = _EXTENSIONS.get(name.rpartition(".")[2].lower())
    if claimed is None or claimed == media_type:
        return ""
    return f" The ending of its name suggests {claimed}; names are not trusted."
