"""Keyset paging walks every row once, in both directions."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.database import Database
from server.errors import InvalidInput
from server.ids import new_id
from server.paging import PageQuery, decode_cursor, encode_cursor, keyset, page
from server.records import Page, PageRequest

QUERY = PageQuery(table="users", where="email LIKE {}", args=("mine%",), columns="id, email")


@pytest.fixture
async def newest_first(database: Database) -> list[UUID]:
    """The ids of seven rows that match QUERY, among as many that don't."""
    ids = []
    for number in range(7):
        for name in ("mine", "other"):
            row_id = new_id()
            await database.execute(
                "INSERT INTO users (id, email, password_hash) VALUES ({}, {}, 'x')",
                row_id,
                f"{name}{number}@b.example",
            )
            if name == "mine":
                ids.append(row_id)
    return ids[::-1]


async def ids(database: Database, request: PageRequest) -> Page[UUID]:
    return await page(database, QUERY, request, lambda row: UUID(bytes=row["id"].bytes))


@pytest.mark.parametrize("size", range(1, 9))
async def test_walking_forwards_sees_each_row_once(
    database: Database, newest_first: list[UUID], size: int
) -> None:
    seen: list[UUID] = []
    current = await ids(database, PageRequest(first=size))
    assert not current.has_previous
    seen += current.items
    while current.has_next:
        current = await ids(database, PageRequest(first=size, after=current.cursors[-1]))
        assert current.has_previous
        seen += current.items

    assert newest_first == seen


@pytest.mark.parametrize("size", range(1, 9))
async def test_walking_backwards_sees_each_row_once(
    database: Database, newest_first: list[UUID], size: int
) -> None:
    current = await ids(database, PageRequest(last=size))
    assert not current.has_next
    seen = current.items
    while current.has_previous:
        current = await ids(database, PageRequest(last=size, before=current.cursors[0]))
        assert current.has_next
        seen = current.items + seen

    assert newest_first == seen


async def test_a_row_added_in_between_moves_nothing(database: Database, newest_first: list[UUID]) -> None:
    before = await ids(database, PageRequest(first=3))
    await database.execute(
        "INSERT INTO users (id, email, password_hash) VALUES ({}, {}, 'x')", new_id(), "mine-new@b.example"
    )

    after = await ids(database, PageRequest(first=100, after=before.cursors[-1]))

    assert newest_first == before.items + after.items


async def test_both_cursors_bound_a_page(database: Database, newest_first: list[UUID]) -> None:
    found = await ids(
        database,
        PageRequest(first=100, after=encode_cursor(newest_first[1]), before=encode_cursor(newest_first[5])),
    )

    assert newest_first[2:5] == found.items
    assert found.has_next
    assert found.has_previous


async def test_the_total_counts_what_matches(database: Database, newest_first: list[UUID]) -> None:
    query = PageQuery(table="users", where="email LIKE {}", args=("mine%",), with_total=True)

    found = await page(database, query, PageRequest(first=2), lambda row: row["email"])

    assert 7 == found.total


@given(st.uuids())
def test_a_cursor_reads_back_as_its_id(row_id: UUID) -> None:
    assert row_id == decode_cursor(encode_cursor(row_id), field="after")


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_any_other_text_is_refused_with_its_field(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        decode_cursor(text, field="before")

    assert ("before",) == refused.value.path


def test_a_cursor_has_one_spelling() -> None:
    cursor = encode_cursor(new_id())

    for other in (cursor + "=", cursor + " ", cursor[:-1] + chr(ord(cursor[-1]) ^ 1), "B" + cursor[1:]):
        with pytest.raises(InvalidInput):
            decode_cursor(other, field="after")


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (PageRequest(), ("first",)),
        (PageRequest(first=1, last=1), ("first",)),
        (PageRequest(first=0), ("first",)),
        (PageRequest(first=101), ("first",)),
        (PageRequest(last=-1), ("last",)),
        (PageRequest(last=101), ("last",)),
        (PageRequest(first=1, after="x"), ("after",)),
        (PageRequest(last=1, before="Zm9v"), ("before",)),
    ],
)
def test_a_page_request_out_of_bounds_names_its_field(request_: PageRequest, path: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput) as refused:
        keyset(request_)

    assert path == refused.value.path


def test_new_ids_grow() -> None:
    made = [new_id() for _ in range(1000)]

    assert sorted(made) == made
