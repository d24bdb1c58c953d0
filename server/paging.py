"""Keyset paging: newest first, by an ``id`` column of UUIDv7, with opaque cursors."""

import base64
import binascii
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from server.database import Database
from server.errors import InvalidInput
from server.records import Page, PageRequest

T = TypeVar("T")

MAX_PAGE_SIZE = 100

#: The first byte of a cursor says how the rest is read.
_CURSOR_VERSION = b"\x01"


class Keyset(msgspec.Struct, frozen=True, kw_only=True):
    """A checked page request. ``newer_than`` and ``older_than`` are exclusive bounds."""

    limit: int
    #: True for ``last``: the oldest rows within the bounds.
    from_end: bool
    older_than: UUID | None
    newer_than: UUID | None


class PageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What to page through. All but ``args`` is SQL of ours, never text of a caller.

    Attributes:
        table: what comes after FROM, joins included.
        where: a condition with ``{}`` placeholders for ``args``.
        id_column: the column of the keyset, qualified where several tables have one.
        columns: the select list; each row needs an ``id``.
        with_total: whether all matching rows are counted too, which reads every one of them.
    """

    table: str
    where: str = "true"
    args: tuple[Any, ...] = ()
    id_column: str = "id"
    columns: str = "*"
    with_total: bool = False


def encode_cursor(row_id: UUID) -> str:
    """Write the cursor of a row."""
    return base64.urlsafe_b64encode(_CURSOR_VERSION + row_id.bytes).decode("ascii").rstrip("=")


def decode_cursor(cursor: str, *, field: str) -> UUID:
    """Read a cursor.

    Raises:
        InvalidInput: it is none of ours; ``field`` is the path.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        row_id = UUID(bytes=raw.removeprefix(_CURSOR_VERSION))
    except (binascii.Error, ValueError) as error:
        raise _bad_cursor(field) from error
    if encode_cursor(row_id) != cursor:
        raise _bad_cursor(field)
    return row_id


def keyset(request: PageRequest) -> Keyset:
    """Check a page request.

    Raises:
        InvalidInput: not exactly one of ``first`` and ``last``, one out of 1 to 100, or a bad cursor.
    """
    if (request.first is None) == (request.last is None):
        raise InvalidInput("Give either `first` or `last`.", path=("first",))
    for field, size in (("first", request.first), ("last", request.last)):
        if size is not None and not 1 <= size <= MAX_PAGE_SIZE:
            raise InvalidInput(f"`{field}` must be between 1 and {MAX_PAGE_SIZE}.", path=(field,))
    return Keyset(
        limit=request.first or request.last or MAX_PAGE_SIZE,
        from_end=request.last is not None,
        older_than=None if request.after is None else decode_cursor(request.after, field="after"),
        newer_than=None if request.before is None else decode_cursor(request.before, field="before"),
    )


def _bad_cursor(field: str) -> InvalidInput:
    return InvalidInput(f"`{field}` is not a cursor of this API.", path=(field,))


async def page(
    db: Database, query: PageQuery, request: PageRequest, to_record: Callable[[dict[str, Any]], T]
) -> Page[T]:
    """Run one keyset query.

    Raises:
        InvalidInput: see ``keyset``.
    """
    keys = keyset(request)
    bounds = [("<", keys.older_than), (">", keys.newer_than)]
    given = [(sign, bound) for sign, bound in bounds if bound is not None]
    rows = await db.fetch(
        f"SELECT {query.columns} FROM {query.table} WHERE ({query.where})"  # noqa: S608 - SQL of ours
        + "".join(f" AND {query.id_column} {sign} {{}}" for sign, _ in given)
        + f" ORDER BY {query.id_column} {'ASC' if keys.from_end else 'DESC'} LIMIT {{}}",
        *query.args,
        *(bound for _, bound in given),
        keys.limit + 1,
    )
    has_more = len(rows) > keys.limit
    rows = rows[: keys.limit]
    if keys.from_end:
        rows.reverse()
    return Page(
        items=[to_record(row) for row in rows],
        cursors=[encode_cursor(row["id"]) for row in rows],
        has_next=(has_more and not keys.from_end) or await _exists(db, query, "<=", keys.newer_than),
        has_previous=(has_more and keys.from_end) or await _exists(db, query, ">=", keys.older_than),
        total=await _count(db, query) if query.with_total else None,
    )


async def _exists(db: Database, query: PageQuery, sign: str, bound: UUID | None) -> bool:
    """Whether a row lies at or beyond a cursor the caller gave: the page starts or ends there."""
    if bound is None:
        return False
    row = await db.fetch_one(
        f"SELECT 1 AS found FROM {query.table} "  # noqa: S608 - SQL of ours
        f"WHERE ({query.where}) AND {query.id_column} {sign} {{}} LIMIT 1",
        *query.args,
        bound,
    )
    return row is not None


async def _count(db: Database, query: PageQuery) -> int:
    [row] = await db.fetch(
        f"SELECT count(*) AS total FROM {query.table} WHERE ({query.where})",  # noqa: S608 - SQL of ours
        *query.args,
    )
    total: int = row["total"]
    return total
