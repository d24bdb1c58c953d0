import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bus.objects import ObjectStore
from server.auth.principal import Principal, Scope
from server.errors import Forbidden, InvalidInput, NotFound, PayloadTooLarge
from server.ids import new_id
from server.records import FileRecord, Modality, PageRequest
from server.uploads import Uploads, _clean
from tests.support.embedding import MakePrincipal


async def _in_chunks(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(buffer, "PNG")
    return buffer.getvalue()


async def _store(uploads: Uploads, principal: Principal, content: bytes, name: str = "a") -> FileRecord:
    return await uploads.store(principal, name=name, chunks=_in_chunks(content))


async def _read(uploads: Uploads, record: FileRecord) -> bytes:
    return b"".join([chunk async for chunk in uploads.stream(record)])


async def test_a_file_is_stored_with_what_it_is_and_its_digest(
    uploads: Uploads, principal: Principal
) -> None:
    content = _png()

    stored = await _store(uploads, principal, content, "C:\\pictures\\red.png")

    assert stored == await uploads.get(principal.user_id, stored.id)
    assert ("red.png", "image/png", Modality.IMAGE) == (stored.name, stored.media_type, stored.modality)
    assert (len(content), hashlib.sha256(content).hexdigest()) == (stored.byte_size, stored.sha256)
    assert content == await _read(uploads, stored)


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, 99_999, 100_000])
async def test_content_survives_at_every_length_and_cut(
    uploads: Uploads, principal: Principal, size: int
) -> None:
    content = (b"0123456789abcdef" * 6250)[:size]

    stored = await uploads.store(principal, name="t", chunks=_in_chunks(content, size=4097))

    assert content == await _read(uploads, stored)
    assert Modality.TEXT == stored.modality


async def test_one_byte_too_many_is_refused_and_nothing_is_listed(
    uploads: Uploads, principal: Principal
) -> None:
    with pytest.raises(PayloadTooLarge) as refused:
        await _store(uploads, principal, b"x" * 100_001)

    assert ("file",) == refused.value.path
    assert [] == (await uploads.page(principal.user_id, PageRequest(first=10))).items


async def test_an_empty_file_is_invalid_input(uploads: Uploads, principal: Principal) -> None:
    with pytest.raises(InvalidInput) as refused:
        await uploads.store(principal, name="a", chunks=_in_chunks(b""))

    assert ("file",) == refused.value.path


async def test_text_that_turns_binary_after_the_head_is_no_text(
    uploads: Uploads, principal: Principal
) -> None:
    stored = await _store(uploads, principal, b"all is well. " * 6000 + b"\xff\xfe\x00")

    assert stored.modality is None


async def test_somebody_elses_file_is_not_found(
    uploads: Uploads, principal: Principal, make_principal: MakePrincipal
) -> None:
    stored = await _store(uploads, principal, b"mine")
    other = await make_principal()

    with pytest.raises(NotFound):
        await uploads.get(other.user_id, stored.id)
    with pytest.raises(NotFound):
        await uploads.delete(other, stored.id)
    with pytest.raises(NotFound) as refused:
        await uploads.get_many(other.user_id, [stored.id])
    assert ("file_ids", "0") == refused.value.path
    assert stored == await uploads.get(principal.user_id, stored.id)


async def test_many_are_returned_in_the_order_asked_for_and_the_first_missing_is_named(
    uploads: Uploads, principal: Principal
) -> None:
    first, second = [await _store(uploads, principal, text) for text in (b"one", b"two")]

    assert [second, first, second] == await uploads.get_many(
        principal.user_id, [second.id, first.id, second.id]
    )
    with pytest.raises(NotFound) as refused:
        await uploads.get_many(principal.user_id, [first.id, new_id(), new_id()])
    assert ("file_ids", "1") == refused.value.path


async def test_bytes_go_with_the_last_file_that_has_them(
    uploads: Uploads, objects: ObjectStore, principal: Principal, make_principal: MakePrincipal
) -> None:
    other = await make_principal()
    mine, theirs = [await _store(uploads, owner, b"shared") for owner in (principal, other)]

    await uploads.delete(principal, mine.id)
    assert b"shared" == await _read(uploads, theirs)

    await uploads.delete(other, theirs.id)
    assert not await objects.exists(theirs.object_key)


async def test_a_deleted_file_is_gone_from_everywhere(uploads: Uploads, principal: Principal) -> None:
    stored = await _store(uploads, principal, b"short-lived")

    await uploads.delete(principal, stored.id)

    with pytest.raises(NotFound):
        await uploads.get(principal.user_id, stored.id)
    with pytest.raises(NotFound):
        await uploads.delete(principal, stored.id)
    assert [] == (await uploads.page(principal.user_id, PageRequest(first=10))).items


async def test_the_same_bytes_stored_and_deleted_at_once_are_never_lost_to_a_live_file(
    uploads: Uploads, principal: Principal
) -> None:
    kept: list[FileRecord] = []

    async def store_and_maybe_delete(number: int) -> None:
        stored = await _store(uploads, principal, b"contested")
        if number % 2:
            await uploads.delete(principal, stored.id)
        else:
            kept.append(stored)

    # A store that loses the race is told to send again; that it may not do is lose the bytes silently.
    await asyncio.gather(*map(store_and_maybe_delete, range(20)), return_exceptions=True)

    for record in kept:
        assert b"contested" == await _read(uploads, record)


async def test_pages_come_newest_first(uploads: Uploads, principal: Principal) -> None:
    stored = [await _store(uploads, principal, bytes([65 + number])) for number in range(3)]

    page = await uploads.page(principal.user_id, PageRequest(first=2))
    rest = await uploads.page(principal.user_id, PageRequest(first=2, after=page.cursors[-1]))

    ids: list[UUID] = [record.id for record in (*page.items, *rest.items)]
    assert [record.id for record in reversed(stored)] == ids
    assert (True, False) == (page.has_next, rest.has_next)


async def test_a_credential_for_reading_stores_nothing(
    uploads: Uploads, make_principal: MakePrincipal
) -> None:
    reader = await make_principal(Scope.READ)

    with pytest.raises(Forbidden):
        await _store(uploads, reader, b"no")


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("a\r\nSet-Cookie: x", "aSet-Cookie: x"),
        ("\u202egpj.exe", "gpj.exe"),
        ("", "file"),
        ("///", "file"),
        ("löwe 🦁.jpg", "löwe 🦁.jpg"),
        ("x" * 999, "x" * 255),
    ],
)
def test_names_are_made_harmless(given_name: str, kept: str) -> None:
    assert kept == _clean(given_name)


@given(st.text())
def test_every_name_can_be_stored(name: str) -> None:
    cleaned = _clean(name)

    assert 1 <= len(cleaned) <= 255
    assert cleaned.encode()
    assert not set(cleaned) & set("/\\\0\r\n")
