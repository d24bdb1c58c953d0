"""JSON lines: an object a line."""

from collections.abc import Iterator
from itertools import chain

import msgspec

from workers.train.datasets.columns import Roles, find_roles
from workers.train.datasets.facts import BadSource, Issue, Limits, Reading, Row
from workers.train.datasets.records import row_of
from workers.train.datasets.streams import Read, lines

_PEEKED = 50
#: An object by its line, or why there is none.
Found = tuple[int, dict[str, object] | str]


def read_json_lines(read: Read, limits: Limits) -> Reading:
    """The rows of JSON lines, numbered as the file's lines are. What they hold is told by the first objects.

    Raises:
        BadSource: nothing in it, or no keys that fit.
    """
    found = objects(read, limits)
    first = [one for _, one in zip(range(_PEEKED), found, strict=False)]
    good = [one for _, one in first if isinstance(one, dict)]
    if not first:
        raise BadSource("The file is empty.")
    if not good:
        number, problem = first[0]
        raise BadSource(
            f"No line of the first {len(first)} is a JSON object: line {number} {problem}. "
            "Write one object a line."
        )
    names = list(dict.fromkeys(name for one in good for name in one))
    lists = {at for at, name in enumerate(names) if any(isinstance(one.get(name), list) for one in good)}
    roles = find_roles(names, lists=lists)
    return Reading(roles.kind, _rows(chain(first, found), names, roles, limits))


def objects(read: Read, limits: Limits) -> Iterator[Found]:
    """Each line that isn't blank."""
    for number, (line, is_cut) in enumerate(lines(read, limits.max_row_bytes), 1):
        if is_cut:
            yield number, f"is longer than {limits.max_row_bytes:,} bytes"
        elif line and not line.isspace():
            yield number, _parsed(line)


def _parsed(line: bytes) -> dict[str, object] | str:
    try:
        found = msgspec.json.decode(line)
    except RecursionError:
        return "is nested too deeply"
    except msgspec.DecodeError as error:
        return f"is no JSON: {error}"
    except UnicodeDecodeError as error:
        return f"is not UTF-8: byte 0x{line[error.start]:02X} at byte {error.start + 1}"
    return found if isinstance(found, dict) else "is no JSON object"


def _rows(found: Iterator[Found], names: list[str], roles: Roles, limits: Limits) -> Iterator[Row | Issue]:
    by_role = {role: names[at] for role, at in roles.places.items()}
    for number, one in found:
        if isinstance(one, str):
            yield Issue(number, one)
        else:
            record = {role: one.get(name) for role, name in by_role.items()}
            yield row_of(roles.kind, number, record, limits)
