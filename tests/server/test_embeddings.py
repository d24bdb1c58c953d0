"""The `embed` call, from validation to usage, with a worker that answers on the bus."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from server.auth.principal import Principal, Scope
from server.embed_inputs import encode_texts
from server.embeddings import Embeddings, _cut
from server.errors import (
    ErrorCode,
    Forbidden,
    InvalidInput,
    NotFound,
    PayloadTooLarge,
    ServiceError,
    UnsupportedMedia,
)
from server.ids import new_id
from server.records import EmbedRequest, FileRecord
from server.uploads import Uploads
from server.usage import UsageMeter
from tests.support.embedding import (
    POISON,
    TEXT_PIPELINE,
    ChangePipelines,
    EmbedWorker,
    MakePrincipal,
    vector_of,
)

Store = Callable[..., Awaitable[FileRecord]]


@pytest.fixture
def store(uploads: Uploads, principal: Principal) -> Store:
    """Upload some bytes."""

    async def chunks(content: bytes) -> AsyncIterator[bytes]:
        yield content

    async def store(content: bytes, *, owner: Principal = principal) -> FileRecord:
        return await uploads.store(owner, name="a", chunks=chunks(content))

    return store


def _png(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 3), color).save(buffer, "PNG")
    return buffer.getvalue()


async def test_texts_come_back_as_rows_in_order_with_how_they_were_chosen(
    embeddings: Embeddings, principal: Principal
) -> None:
    texts = [f"text number {number}" for number in range(70)]

    result = await embeddings.embed(principal, EmbedRequest(texts=texts))

    expected = np.stack([vector_of(text, 8) for text in texts])
    assert (70, 8) == result.vectors.shape
    np.testing.assert_array_equal(expected, result.vectors)
    assert "text-a" == result.pipeline.name
    assert result.selection is not None
    assert ([False] * 70, [], 8) == (result.cached, result.failures, result.dimension)


async def test_a_big_request_is_shared_out_in_small_commands(
    embeddings: Embeddings, worker: EmbedWorker, principal: Principal
) -> None:
    await embeddings.embed(principal, EmbedRequest(texts=[f"{number}" for number in range(100)]))

    assert [32, 32, 32, 4] == [len(command.inputs) for command in worker.commands]
    assert len({command.request_id for command in worker.commands}) == len(worker.commands)


async def test_commands_stay_small_in_bytes_too(
    embeddings: Embeddings, worker: EmbedWorker, principal: Principal
) -> None:
    texts = [f"{number:02}" + "ä" * 2_400 for number in range(64)]

    result = await embeddings.embed(principal, EmbedRequest(texts=texts))

    sizes = [sum(len(item.text.encode()) for item in command.inputs) for command in worker.commands]  # type: ignore[union-attr]
    assert max(sizes) <= 200_000
    np.testing.assert_array_equal(vector_of(texts[63], 8), result.vectors[63])


async def test_the_same_text_a_hundred_times_at_once_is_computed_once(
    embeddings: Embeddings, worker: EmbedWorker, principal: Principal
) -> None:
    results = await asyncio.gather(
        *(embeddings.embed(principal, EmbedRequest(texts=["popular"])) for _ in range(100))
    )

    assert ["popular"] == worker.texts
    for result in results:
        np.testing.assert_array_equal(vector_of("popular", 8)[None, :], result.vectors)
    # The one who computed it pays for it; the others pay for their tokens only.
    assert 0.25 == sum(result.usage.compute_s for result in results)
    assert {1} == {result.usage.tokens for result in results}


async def test_a_text_that_is_there_twice_is_computed_once(
    embeddings: Embeddings, worker: EmbedWorker, principal: Principal
) -> None:
    result = await embeddings.embed(principal, EmbedRequest(texts=["b", "a", "b"]))

    assert ["b", "a"] == worker.texts
    np.testing.assert_array_equal(result.vectors[0], result.vectors[2])


async def test_known_texts_come_from_the_cache_without_a_word_to_the_workers(
    embeddings: Embeddings, worker: EmbedWorker, principal: Principal
) -> None:
    await embeddings.embed(principal, EmbedRequest(texts=["a b", "c"]))
    asked = len(worker.commands)

    again = await embeddings.embed(principal, EmbedRequest(texts=["a b", "c"]))
    mixed = await embeddings.embed(principal, EmbedRequest(texts=["new", "a b"]))

    assert ([True, True], 0.0, 3) == (again.cached, again.usage.compute_s, again.usage.tokens)
    assert [False, True] == mixed.cached
    assert ["a b", "c", "new"] == worker.texts
    assert asked + 1 == len(worker.commands)


async def test_requests_that_overlap_share_what_is_on_its_way(
    embeddings: Embeddings, worker: EmbedWorker, principal: Principal
) -> None:
    worker.gate.clear()
    both = asyncio.gather(
        embeddings.embed(principal, EmbedRequest(texts=["a", "b"])),
        embeddings.embed(principal, EmbedRequest(texts=["c", "b", "a"])),
    )
    await asyncio.wait_for(worker.took.wait(), 5)
    worker.gate.set()

    _, second = await both

    assert ["a", "b", "c"] == sorted(worker.texts)
    np.testing.assert_array_equal(np.stack([vector_of(text, 8) for text in "cba"]), second.vectors)


async def test_another_version_of_a_pipeline_has_another_cache(
    embeddings: Embeddings, principal: Principal, change_pipelines: ChangePipelines
) -> None:
    await embeddings.embed(principal, EmbedRequest(texts=["a"]))
    await change_pipelines(msgspec.structs.replace(TEXT_PIPELINE, version="2", dimension=5))

    result = await embeddings.embed(principal, EmbedRequest(texts=["a"]))

    assert ([False], (1, 5)) == (result.cached, result.vectors.shape)


async def test_fewer_dimensions_are_cut_and_of_unit_length_again(
    embeddings: Embeddings, principal: Principal
) -> None:
    result = await embeddings.embed(principal, EmbedRequest(texts=["a", "b"], dimensions=3))

    start = np.stack([vector_of(text, 8)[:3] for text in "ab"])
    np.testing.assert_allclose(
        start / np.linalg.norm(start, axis=1, keepdims=True), result.vectors, rtol=1e-6
    )
    assert (3, np.float32) == (result.dimension, result.vectors.dtype)


@given(
    st.lists(st.lists(st.floats(-1, 1, width=32), min_size=6, max_size=6), min_size=1, max_size=5),
    st.integers(1, 6),
)
def test_cut_rows_are_of_unit_length_or_zero(rows: list[list[float]], dimension: int) -> None:
    vectors = np.array(rows, dtype=np.float32)
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    vectors = np.where(norms > 1e-3, vectors / np.maximum(norms, 1e-3), 0).astype(np.float32)

    cut = _cut(vectors, dimension)

    assert (len(rows), dimension) == cut.shape
    for row, before in zip(cut, vectors, strict=True):
        if np.linalg.norm(before[:dimension]) > 1e-6:
            assert 1.0 == pytest.approx(float(np.linalg.norm(row)), abs=1e-5)
        assert not np.isnan(row).any()


async def test_one_bad_item_is_explained_and_its_neighbours_are_fine(
    embeddings: Embeddings, worker: EmbedWorker, principal: Principal
) -> None:
    texts = ["a", POISON, "b", POISON]

    result = await embeddings.embed(principal, EmbedRequest(texts=texts))
    again = await embeddings.embed(principal, EmbedRequest(texts=texts))

    assert [(1, ErrorCode.INVALID_INPUT), (3, ErrorCode.INVALID_INPUT)] == [
        (failure.index, failure.code) for failure in result.failures
    ]
    assert not result.vectors[1].any()
    np.testing.assert_array_equal(vector_of("b", 8), result.vectors[2])
    # A failure is asked for again: what was wrong may have been the worker.
    assert [True, False, True, False] == again.cached
    assert 2 == worker.texts.count(POISON)


async def test_pictures_go_to_the_image_pipeline_by_reference(
    embeddings: Embeddings, principal: Principal, store: Store
) -> None:
    files = [await store(_png(color)) for color in ("red", "green", "red")]

    result = await embeddings.embed(principal, EmbedRequest(file_ids=[file.id for file in files]))

    expected = np.stack([vector_of(file.object_key, 6) for file in files])
    np.testing.assert_array_equal(expected, result.vectors)
    assert result.selection is not None
    assert ("image-a", "image/png") == (result.pipeline.name, result.selection.media_type)
    assert sum(file.byte_size for file in files) == result.usage.bytes


async def test_a_text_file_and_the_same_text_share_one_vector(
    embeddings: Embeddings, worker: EmbedWorker, principal: Principal, store: Store
) -> None:
    file = await store(b"a lion in the savanna")
    text = await embeddings.embed(principal, EmbedRequest(texts=["a lion in the savanna"]))

    by_file = await embeddings.embed(principal, EmbedRequest(file_ids=[file.id]))

    assert [True] == by_file.cached
    np.testing.assert_array_equal(text.vectors, by_file.vectors)


async def test_usage_is_counted(embeddings: Embeddings, usage: UsageMeter, principal: Principal) -> None:
    await embeddings.embed(principal, EmbedRequest(texts=["one two", "drei"]))
    await embeddings.embed(principal, EmbedRequest(texts=["one two"]))

    total = await usage.total(principal.user_id, None)

    assert (2, 3, 5, 18, 0.25) == (total.requests, total.items, total.tokens, total.bytes, total.compute_s)


def _bad_requests() -> Iterator[tuple[str, EmbedRequest, type[ServiceError], tuple[str, ...]]]:
    yield "neither kind", EmbedRequest(), InvalidInput, ("texts",)
    yield "both kinds", EmbedRequest(texts=["a"], file_ids=[new_id()]), InvalidInput, ("texts",)
    yield "no text", EmbedRequest(texts=[]), InvalidInput, ("texts",)
    yield "no file", EmbedRequest(file_ids=[]), InvalidInput, ("file_ids",)
    yield "10,000 texts", EmbedRequest(texts=["a"] * 10_000), InvalidInput, ("texts",)
    yield "too many files", EmbedRequest(file_ids=[new_id()] * 201), InvalidInput, ("file_ids",)
    yield "empty text", EmbedRequest(texts=["a", ""]), InvalidInput, ("texts", "1")
    yield "NUL", EmbedRequest(texts=["a", "b", "c\0d"]), InvalidInput, ("texts", "2")
    yield "lone surrogate", EmbedRequest(texts=["\ud83d"]), InvalidInput, ("texts", "0")
    yield "1 MB of text", EmbedRequest(texts=["a", "x" * 1_000_000]), PayloadTooLarge, ("texts", "1")
    yield "just too long in UTF-8", EmbedRequest(texts=["ä" * 2_501]), PayloadTooLarge, ("texts", "0")
    yield "unknown pipeline", EmbedRequest(texts=["a"], pipeline="nope"), NotFound, ("pipeline",)
    yield "image pipeline", EmbedRequest(texts=["a"], pipeline="image-a"), InvalidInput, ("texts", "0")
    yield "no dimension", EmbedRequest(texts=["a"], dimensions=0), InvalidInput, ("dimensions",)
    yield "too many dimensions", EmbedRequest(texts=["a"], dimensions=9), InvalidInput, ("dimensions",)
    yield "unknown file", EmbedRequest(file_ids=[new_id()]), NotFound, ("file_ids", "0")


@pytest.mark.parametrize(
    ("request_", "error", "path"),
    [case[1:] for case in _bad_requests()],
    ids=[case[0] for case in _bad_requests()],
)
async def test_bad_input_is_refused_with_its_path_and_costs_nothing(
    *,
    embeddings: Embeddings,
    worker: EmbedWorker,
    usage: UsageMeter,
    principal: Principal,
    request_: EmbedRequest,
    error: type[ServiceError],
    path: tuple[str, ...],
) -> None:
    with pytest.raises(error) as refused:
        await embeddings.embed(principal, request_)

    assert (error, path) == (type(refused.value), refused.value.path)
    assert ([], 0) == (worker.commands, (await usage.total(principal.user_id, None)).requests)


async def test_mixed_kinds_and_unserved_kinds_of_files_are_refused_by_index(
    embeddings: Embeddings, principal: Principal, store: Store
) -> None:
    picture, text, zipped = [
        await store(content) for content in (_png("red"), b"words", b"PK\x05\x06" + bytes(18))
    ]

    with pytest.raises(InvalidInput) as mixed:
        await embeddings.embed(principal, EmbedRequest(file_ids=[picture.id, picture.id, text.id]))
    with pytest.raises(UnsupportedMedia) as unserved:
        await embeddings.embed(principal, EmbedRequest(file_ids=[picture.id, zipped.id], pipeline="image-a"))
    with pytest.raises(UnsupportedMedia, match="application/zip"):
        await embeddings.embed(principal, EmbedRequest(file_ids=[zipped.id]))

    assert ("file_ids", "2") == mixed.value.path
    assert ("file_ids", "1") == unserved.value.path


async def test_a_text_file_over_the_ceiling_of_texts_is_refused(
    embeddings: Embeddings, principal: Principal, store: Store
) -> None:
    file = await store(b"x" * 5_001)

    with pytest.raises(PayloadTooLarge) as refused:
        await embeddings.embed(principal, EmbedRequest(file_ids=[file.id]))

    assert ("file_ids", "0") == refused.value.path


async def test_somebody_elses_file_is_not_found(
    embeddings: Embeddings, principal: Principal, make_principal: MakePrincipal, store: Store
) -> None:
    theirs = await store(_png("red"), owner=await make_principal())
    mine = await store(_png("red"))

    with pytest.raises(NotFound) as refused:
        await embeddings.embed(principal, EmbedRequest(file_ids=[mine.id, theirs.id]))

    assert ("file_ids", "1") == refused.value.path


async def test_a_credential_without_the_scope_embeds_nothing(
    embeddings: Embeddings, make_principal: MakePrincipal
) -> None:
    with pytest.raises(Forbidden):
        await embeddings.embed(await make_principal(Scope.READ), EmbedRequest(texts=["a"]))


@given(st.lists(st.text(), max_size=5))
def test_any_list_of_texts_is_encoded_or_refused_by_index(texts: list[str]) -> None:
    try:
        encoded = encode_texts(texts, max_text_bytes=20)
    except (InvalidInput, PayloadTooLarge) as refused:
        field, index = refused.path
        assert "texts" == field
        culprit = texts[int(index)]
        assert not culprit or "\0" in culprit or len(culprit.encode("utf-8", "replace")) > 20
    else:
        assert texts == [raw.decode() for raw in encoded]
