"""What the columns of a table are for, by their names."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from workers.train.datasets.cleaning import shown
from workers.train.datasets.facts import BadSource, Kind

#: Names by what a column is for, whatever their case; where several are there, the first counts.
NAMES: dict[str, tuple[str, ...]] = {
    "text": ("text", "sentence", "content", "review", "document", "body", "message", "comment"),
    "label": ("label", "class", "category", "target", "y", "labels", "classes", "sentiment", "topic"),
    "split": ("split", "subset", "set", "fold"),
    "file": ("file", "filename", "file_name", "path", "filepath", "file_path", "image", "image_path", "img"),
    "image": ("image", "img", "picture", "image_bytes"),
    "tokens": ("tokens", "words"),
    "tags": ("tags", "ner_tags", "pos_tags", "labels"),
    "source": ("source", "src", "input", "question", "prompt"),
    "target": ("target", "tgt", "output", "answer", "completion"),
}
#: Columns that only number the rows.
_NUMBERING = frozenset({"", "id", "index", "unnamed: 0"})
_MAX_NAMED = 8


class Roles(NamedTuple):
    """What a table holds, and the position of each column by what it is for.

    ``numbers`` are the positions of the columns of a row of numbers.
    """

    kind: Kind
    places: dict[str, int]
    numbers: tuple[int, ...] = ()


def find_roles(
    names: Sequence[str], *, numeric: AbstractSet[int] = frozenset(), lists: AbstractSet[int] = frozenset(),
    pictures: AbstractSet[int] = frozenset(),
) -> Roles:  # fmt: skip
    """Tell what a table is by its columns' names, and by which of them hold numbers, lists or pictures.

    Raises:
        BadSource: nothing fits; it says which columns are there and what is looked for.
    """
    places = _places(names, lists, pictures)
    common = _of(places, "label", "split")
    if "tokens" in places and "tags" in places:
        return Roles("tagged", _of(places, "tokens", "tags", "split"))
    if "source" in places and "target" in places and places["source"] != places["target"]:
        return Roles("pairs", _of(places, "source", "target", "split"))
    if "text" in places:
        return Roles("texts", {"text": places["text"], **common})
    if "image" in places:
        return Roles("images", {"image": places["image"], **common})
    others = [
        at for at, name in enumerate(names)
        if at not in common.values() and name.strip().lower() not in _NUMBERING
    ]  # fmt: skip
    if others and all(at in numeric for at in others):
        return Roles("numbers", common, tuple(others))
    raise no_columns(names, [names[at] for at in others if at not in numeric] if numeric else [])


def find_index(names: Sequence[str]) -> dict[str, int] | None:
    """Where an index of pictures names the file, its label and its split; None where it names no files."""
    places = _places(names, frozenset(), frozenset())
    if "file" not in places:
        return None
    return _of(places, "file", "label", "split")


def _of(places: dict[str, int], *roles: str) -> dict[str, int]:
    return {role: places[role] for role in roles if role in places}


def no_columns(names: Sequence[str], not_numeric: Sequence[str] = ()) -> BadSource:
    """What a source is told whose columns say nothing."""
    listed = ", ".join(shown(name) for name in names[:_MAX_NAMED]) or "none"
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    if not_numeric:
        return BadSource(
            f"No column is a text, and {shown(not_numeric[0])} is not numeric. Columns: {listed}{more}."
        )
    return BadSource(
        f"Columns are {listed}{more}; looked for: text, label; source, target; tokens, tags; or numbers only."
    )


def _places(names: Sequence[str], lists: AbstractSet[int], pictures: AbstractSet[int]) -> dict[str, int]:
    by_name: dict[str, int] = {}
    for at, name in enumerate(names):
        by_name.setdefault(name.strip().lower(), at)
    found = {}
    for role, known in NAMES.items():
        for name in known:
            at = by_name.get(name, -1)
            if at >= 0 and _can_be(role, at, lists, pictures):
                found[role] = at
                break
    return found


def _can_be(role: str, at: int, lists: AbstractSet[int], pictures: AbstractSet[int]) -> bool:
    if role in ("tokens", "tags"):
        return at in lists
    if role == "image":
        return at in pictures
    return at not in lists and at not in pictures
