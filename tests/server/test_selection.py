from datetime import UTC, datetime

import pytest

from server.errors import InvalidInput, PipelineUnavailable, UnsupportedMedia
from server.ids import new_id
from server.pipelines import Pipelines
from server.records import FileRecord, Modality
from server.selection import Selector
from tests.support.embedding import ChangePipelines


@pytest.fixture
def selector(pipelines: Pipelines) -> Selector:
    return Selector(pipelines)


def _file(media_type: str, modality: Modality | None) -> FileRecord:
    return FileRecord(
        id=new_id(),
        user_id=new_id(),
        name="a",
        media_type=media_type,
        modality=modality,
        confidence=0.9,
        reason="Its first bytes say so.",
        byte_size=10,
        sha256="00" * 32,
        object_key="blobs/00/00",
        created_at=datetime.now(UTC),
    )


USER = new_id()
TEXT = _file("text/plain", Modality.TEXT)
JPEG = _file("image/jpeg", Modality.IMAGE)
WAV = _file("audio/wav", Modality.AUDIO)


async def test_a_choice_says_what_the_content_is_and_why(selector: Selector) -> None:
    selection = await selector.for_file(JPEG)

    assert ("image-a", "image/jpeg", Modality.IMAGE, 0.9) == (
        selection.pipeline.name,
        selection.media_type,
        selection.modality,
        selection.confidence,
    )
    assert "Its first bytes say so. image-a comes first for an image here." == selection.reason


async def test_texts_take_the_text_pipeline(selector: Selector) -> None:
    choice = await selector.resolve_texts(USER, "auto")

    assert "text-a" == choice.pipeline.name
    assert choice.selection is not None


async def test_a_named_pipeline_is_no_choice(selector: Selector) -> None:
    assert None is (await selector.resolve_texts(USER, "text-a")).selection
    assert None is (await selector.resolve_files(USER, "image-a", [JPEG])).selection


@pytest.mark.parametrize(
    "file",
    [
        WAV,
        _file("video/mp4", Modality.VIDEO),
        _file("application/pdf", Modality.DOCUMENT),
        _file("image/tiff", Modality.IMAGE),
        _file("application/zip", None),
    ],
    ids=lambda file: file.media_type,
)
@pytest.mark.parametrize("name", ["auto", "image-a"])
async def test_what_nobody_takes_is_named(selector: Selector, file: FileRecord, name: str) -> None:
    with pytest.raises(UnsupportedMedia, match=file.media_type) as refused:
        await selector.resolve_files(USER, name, [file])

    assert ("file_ids", "0") == refused.value.path


async def test_auto_refuses_kinds_that_differ_and_names_the_first_that_does(selector: Selector) -> None:
    with pytest.raises(InvalidInput) as refused:
        await selector.resolve_files(USER, "auto", [JPEG, JPEG, TEXT, WAV])

    assert ("file_ids", "2") == refused.value.path


async def test_a_named_pipeline_refuses_what_it_does_not_take(selector: Selector) -> None:
    with pytest.raises(InvalidInput) as text_to_image:
        await selector.resolve_texts(USER, "image-a")
    with pytest.raises(InvalidInput) as second_file:
        await selector.resolve_files(USER, "image-a", [JPEG, TEXT])

    assert ("texts", "0") == text_to_image.value.path
    assert ("file_ids", "1") == second_file.value.path


async def test_a_kind_we_serve_without_a_worker_is_unavailable_not_unsupported(
    selector: Selector, change_pipelines: ChangePipelines
) -> None:
    await change_pipelines()

    with pytest.raises(PipelineUnavailable):
        await selector.resolve_files(USER, "auto", [JPEG])
    with pytest.raises(PipelineUnavailable):
        await selector.resolve_texts(USER, "auto")
