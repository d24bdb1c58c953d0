"""What may be embedded: checks before any work is done, each naming the field at fault."""

from collections.abc import Sequence

from server.errors import InvalidInput, PayloadTooLarge, ServiceError
from server.records import EmbedRequest, FileRecord, Modality


def check_shape(request: EmbedRequest, *, max_inputs: int) -> None:
    """Check that there is exactly one kind of inputs, and how many there are.

    Raises:
        InvalidInput: neither or both kinds, none or too many, or a dimension below 1.
    """
    if (request.texts is None) == (request.file_ids is None):
        raise InvalidInput("Give exactly one of texts and files.", path=("texts",))
    field = "texts" if request.texts is not None else "file_ids"
    count = len(request.texts or request.file_ids or ())
    if not 1 <= count <= max_inputs:
        raise InvalidInput(f"Give between 1 and {max_inputs} inputs; there are {count}.", path=(field,))
    if request.dimensions is not None and request.dimensions < 1:
        raise InvalidInput("There must be at least 1 dimension.", path=("dimensions",))


def encode_texts(texts: Sequence[str], *, max_text_bytes: int) -> list[bytes]:
    """Check texts and return them as UTF-8.

    Raises:
        InvalidInput: one is empty, contains NUL, or has half of a surrogate pair.
        PayloadTooLarge: one is too long.
    """
    encoded = []
    for index, text in enumerate(texts):
        try:
            raw = text.encode()
        except UnicodeEncodeError as error:
            raise _lone_surrogate(index) from error
        if not raw or len(raw) > max_text_bytes or b"\0" in raw:
            raise _fault_of(raw, index, max_text_bytes)
        encoded.append(raw)
    return encoded


def check_files(files: Sequence[FileRecord], *, max_text_bytes: int) -> None:
    """Check what the records of files tell.

    Raises:
        PayloadTooLarge: a text file is longer than a text may be.
    """
    for index, file in enumerate(files):
        if file.modality == Modality.TEXT and file.byte_size > max_text_bytes:
            raise _too_long(file.byte_size, max_text_bytes, ("file_ids", str(index)))


def _fault_of(raw: bytes, index: int, max_text_bytes: int) -> ServiceError:
    path = ("texts", str(index))
    if not raw:
        return InvalidInput("This text is empty.", path=path)
    if len(raw) > max_text_bytes:
        return _too_long(len(raw), max_text_bytes, path)
    return InvalidInput("This text contains a NUL character.", path=path)


def _lone_surrogate(index: int) -> InvalidInput:
    return InvalidInput(
        "This text is not valid Unicode: it contains half of a surrogate pair.", path=("texts", str(index))
    )


def _too_long(byte_size: int, max_text_bytes: int, path: tuple[str, ...]) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"This text has {byte_size} bytes of UTF-8; {max_text_bytes} are allowed.", path=path
    )
