"""What something is, by its bytes. Real files come from encoders and installed packages."""

import io
import wave
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import skimage
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from server.content import ContentDetector, ContentType, TextProbe
from server.records import Modality
from server.signatures import find_binary, find_textual


@pytest_asyncio.fixture
async def detector() -> AsyncIterator[ContentDetector]:
    detector = ContentDetector()
    yield detector
    detector.close()


def _encoded(image_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (7, 5), "teal").save(buffer, image_format)
    return buffer.getvalue()


def _spoken() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(16_000)
        recording.writeframes(bytes(3_200))
    return buffer.getvalue()


async def _identify(detector: ContentDetector, content: bytes, name: str = "a") -> ContentType:
    return await detector.identify(content, name=name, whole=True)


@pytest.mark.parametrize(
    ("image_format", "media_type"),
    [
        ("JPEG", "image/jpeg"),
        ("PNG", "image/png"),
        ("GIF", "image/gif"),
        ("WEBP", "image/webp"),
        ("TIFF", "image/tiff"),
        ("BMP", "image/bmp"),
        ("ICO", "image/vnd.microsoft.icon"),
        ("PDF", "application/pdf"),
    ],
)
async def test_files_a_real_encoder_wrote_are_recognised(
    detector: ContentDetector, image_format: str, media_type: str
) -> None:
    found = await _identify(detector, _encoded(image_format))

    assert (media_type, 1.0) == (found.media_type, found.confidence)
    assert found.reason.startswith("Its first bytes are those of a")


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("rocket.jpg", "image/jpeg"),
        ("coffee.png", "image/png"),
        ("no_time_for_that_tiny.gif", "image/gif"),
        ("multipage.tif", "image/tiff"),
    ],
)
async def test_real_pictures_are_recognised(detector: ContentDetector, name: str, media_type: str) -> None:
    head = (Path(skimage.__file__).parent / "data" / name).read_bytes()[:65536]

    found = await detector.identify(head, name="picture", whole=False)

    assert (media_type, Modality.IMAGE) == (found.media_type, found.modality)


async def test_a_recording_is_audio(detector: ContentDetector) -> None:
    found = await _identify(detector, _spoken())

    assert ("audio/wav", Modality.AUDIO) == (found.media_type, found.modality)


@pytest.mark.parametrize(
    ("head", "media_type", "modality"),
    [
        (b"RIFF\x24\x00\x00\x00WEBPVP8 ", "image/webp", Modality.IMAGE),
        (b"\x00\x00\x00\x18ftypheic\x00\x00", "image/heic", Modality.IMAGE),
        (b"\x00\x00\x00\x18ftypM4A \x00\x00", "audio/mp4", Modality.AUDIO),
        (b"\x00\x00\x00\x18ftyp3gp4\x00\x00", "video/3gpp", Modality.VIDEO),
        (b"\x00\x00\x00\x18ftypisom\x00\x00", "video/mp4", Modality.VIDEO),
        (b"OggS\x00\x02" + bytes(22) + b"\x01\x1e\x01vorbis", "audio/ogg", Modality.AUDIO),
        (b"OggS\x00\x02" + bytes(22) + b"\x01\x2a\x80theora", "video/ogg", Modality.VIDEO),
        (b"fLaC\x00\x00\x00\x22", "audio/flac", Modality.AUDIO),
        ((b"\xff\xfb\x90\x00" + bytes(413)) * 2, "audio/mpeg", Modality.AUDIO),
        (b"ID3\x04\x00\x00\x00\x00\x00\x00", "audio/mpeg", Modality.AUDIO),
        (b"\x1aE\xdf\xa3\x93B\x82\x84webm", "video/webm", Modality.VIDEO),
        (b"\x1aE\xdf\xa3\x93B\x82\x88matroska", "video/x-matroska", Modality.VIDEO),
        (b"FORM\x00\x00\x10\x00AIFFCOMM", "audio/aiff", Modality.AUDIO),
        ((b"G" + bytes(187)) * 4, "video/mp2t", Modality.VIDEO),
        (bytes(257) + b"ustar\x0000", "application/x-tar", None),
        (b"\x1f\x8b\x08", "application/gzip", None),
    ],
)
def test_first_bytes_tell_formats_apart(head: bytes, media_type: str, modality: Modality | None) -> None:
    found = find_binary(head)

    assert found is not None
    assert (media_type, modality) == (found.media_type, found.modality)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff",
        b"\xff\xfb",
        b"\xff\xfb\x90\x00" + bytes(600),
        b"RIFF\x00\x00\x00\x00XXXX",
        b"BM\x01\x02",
        b"ID3 x",
    ],
    ids=[
        "nothing",
        "one byte",
        "half a frame header",
        "one frame only",
        "unknown RIFF",
        "no bitmap",
        "no tag",
    ],
)
def test_weak_evidence_is_not_enough(head: bytes) -> None:
    assert None is find_binary(head)


@pytest.mark.parametrize("name", ["lion.png", "a.txt", "archive.zip", "", "..", "x" * 5000])
async def test_text_is_text_whatever_its_name(detector: ContentDetector, name: str) -> None:
    found = await _identify(detector, b"A lion is a large cat of the genus Panthera.\n", name)

    assert (Modality.TEXT, "text/plain", 1.0) == (found.modality, found.media_type, found.confidence)


async def test_the_reason_says_so_when_the_name_misleads(detector: ContentDetector) -> None:
    found = await _identify(detector, b"A lion is a large cat.\n", "lion.png")

    assert "suggests image/png" in found.reason


async def test_structured_text_keeps_its_media_type_and_stays_text(detector: ContentDetector) -> None:
    found = await _identify(detector, b'{"name": "lion", "legs": 4, "habitat": ["savanna", "zoo"]}')

    assert ("application/json", Modality.TEXT) == (found.media_type, found.modality)


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", "application/pdf"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
        (b"{\\rtf1\\ansi hello}", "application/rtf"),
        (b"%!PS-Adobe-3.0\nshowpage\n", "application/postscript"),
    ],
)
async def test_documents_written_in_text_are_no_texts(
    detector: ContentDetector, content: bytes, media_type: str
) -> None:
    found = await _identify(detector, content)

    assert media_type == found.media_type
    assert Modality.TEXT != found.modality


async def test_a_zip_is_looked_into_by_the_model_and_stays_an_archive_otherwise(
    detector: ContentDetector,
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("notes.txt", "some notes " * 50)

    found = await _identify(detector, buffer.getvalue())

    assert ("application/zip", None) == (found.media_type, found.modality)


@pytest.mark.parametrize(
    "content",
    [
        "grüße aus köln, heute scheint die sonne. ".encode("latin-1") * 5,
        "hello".encode("utf-16"),
        b"The lion sleeps tonight.\0 In the jungle, the mighty jungle, the lion sleeps.\n" * 3,
    ],
    ids=["latin-1", "utf-16", "NUL"],
)
async def test_text_that_is_not_utf_8_has_no_modality_and_says_why(
    detector: ContentDetector, content: bytes
) -> None:
    found = await _identify(detector, content)

    assert found.modality is None
    assert found.reason


async def test_a_character_cut_at_the_end_of_the_head_is_no_reason_to_doubt(
    detector: ContentDetector,
) -> None:
    content = "äöü".encode() * 100

    found = await detector.identify(content[:-1], name="a", whole=False)
    cut_off = await detector.identify(content[:-1], name="a", whole=True)

    assert Modality.TEXT == found.modality
    assert Modality.TEXT != cut_off.modality


@given(st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_every_text_is_text_to_the_probe_however_it_is_cut(text: str) -> None:
    content = text.encode("utf-8", "ignore") or b"x"
    probe = TextProbe()

    for start in range(0, len(content), 3):
        probe.feed(content[start : start + 3])

    assert probe.is_text(whole=True)


@given(st.binary(max_size=300))
def test_the_probe_agrees_with_a_whole_decode_for_any_bytes(content: bytes) -> None:
    probe = TextProbe()
    for start in range(0, len(content), 7):
        probe.feed(content[start : start + 7])

    try:
        expected = "\0" not in content.decode()
    except UnicodeDecodeError:
        expected = False

    assert expected == probe.is_text(whole=True)


@given(st.binary(max_size=600))
def test_no_bytes_make_the_signatures_fail(content: bytes) -> None:
    find_binary(content)
    find_textual(content)


@pytest.mark.parametrize(
    "content", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\x00", b"\xfe", bytes(range(256)) * 40]
)
async def test_any_scrap_gets_an_answer_with_a_reason(detector: ContentDetector, content: bytes) -> None:
    found = await _identify(detector, content)

    assert 0.0 <= found.confidence <= 1.0
    assert found.reason.endswith(".")
