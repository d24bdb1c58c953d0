"""A row out of the values of a record, whichever format the record was read from."""

from collections.abc import Callable, Mapping

from workers.train.datasets.cleaning import clean_label, clean_split, clean_text
from workers.train.datasets.facts import BadRow, Content, Issue, Kind, Limits, Pair, Row, Tagged
from workers.train.datasets.pictures import decode

#: The values of a record by what their columns are for (`columns.NAMES`).
Record = Mapping[str, object]


def row_of(kind: Kind, number: int, record: Record, limits: Limits) -> Row | Issue:
    """The row that a record makes, or what is wrong with it."""
    try:
        content = _BUILDERS[kind](record, limits)
        return Row(number, content, clean_label(record.get("label")), clean_split(record.get("split")))
    except BadRow as error:
        return Issue(number, str(error))


def _text(record: Record, limits: Limits) -> str:
    return _clean(record, "text", limits)


def _pair(record: Record, limits: Limits) -> Pair:
    return Pair(_clean(record, "source", limits), _clean(record, "target", limits))


def _clean(record: Record, role: str, limits: Limits) -> str:
    value = record.get(role)
    if value is None:
        raise BadRow(f"{role} is missing")
    if not isinstance(value, str):
        raise BadRow(f"{role} is no text")
    return clean_text(value, limits.max_field_bytes, role)


def _tagged(record: Record, limits: Limits) -> Tagged:
    tokens, tags = _words(record, "tokens", limits), _words(record, "tags", limits)
    if len(tokens) != len(tags):
        raise BadRow(f"has {len(tokens)} tokens, but {len(tags)} tags")
    if not tokens:
        raise BadRow("has no tokens")
    named = [clean_label(tag) for tag in tags]
    if None in named:
        raise BadRow(f"tag {named.index(None) + 1} is empty")
    return Tagged(tokens, [name for name in named if name is not None])


def _words(record: Record, role: str, limits: Limits) -> list[str]:
    value = record.get(role)
    if not isinstance(value, list):
        raise BadRow(f"{role} is no list")
    words = []
    for word in value:
        # Tags are numbers in many sets; so are tokens in none.
        if role == "tags" and isinstance(word, int) and not isinstance(word, bool):
            words.append(str(word))
        elif isinstance(word, str):
            words.append(clean_text(word, limits.max_field_bytes, role.removesuffix("s")))
        else:
            raise BadRow(f"{role} holds something that is no text")
    return words


def _picture(record: Record, limits: Limits) -> Content:
    data = record.get("image")
    if isinstance(data, Mapping):
        data = data.get("bytes")  # how Parquet files of pictures are usually laid out: bytes beside a path
    if not isinstance(data, bytes):
        raise BadRow("image is missing")
    if len(data) > limits.max_picture_bytes:
        raise BadRow(f"image is larger than {limits.max_picture_bytes >> 20} MiB")
    try:
        return decode(data, limits)
    except BadRow as error:
        raise BadRow(f"image {error}") from error


_BUILDERS: dict[Kind, Callable[[Record, Limits], Content]] = {
    "texts": _text, "pairs": _pair, "tagged": _tagged, "images": _picture,
}  # fmt: skip
