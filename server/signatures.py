"""What the first bytes of a file give away, without a model and without trust in its name.

Byte layouts are those of the formats' own specifications: RIFF, ISO/IEC 14496-12 (the `ftyp` box),
RFC 3533 (Ogg), RFC 9639 (FLAC), ISO/IEC 11172-3 (MPEG audio frames), RFC 8794 (EBML).
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from server.records import Modality


class Kind(NamedTuple):
    """A recognised format: its media type, what it holds, and its name in a sentence."""

    media_type: str
    modality: Modality | None
    name: str


JPEG: Final = Kind("image/jpeg", Modality.IMAGE, "a JPEG image")
PNG: Final = Kind("image/png", Modality.IMAGE, "a PNG image")
GIF: Final = Kind("image/gif", Modality.IMAGE, "a GIF image")
WEBP: Final = Kind("image/webp", Modality.IMAGE, "a WebP image")
SVG: Final = Kind("image/svg+xml", Modality.IMAGE, "an SVG drawing")
PDF: Final = Kind("application/pdf", Modality.DOCUMENT, "a PDF document")
ZIP: Final = Kind("application/zip", None, "a ZIP archive")
OLE2: Final = Kind("application/x-ole-storage", Modality.DOCUMENT, "an old Microsoft Office document")
#: Containers of many formats: a finer answer is worth a model.
CONTAINERS: Final = frozenset({ZIP, OLE2})

#: (offset, bytes, kind). Looked at only where the content is no text.
_FIXED: Final[tuple[tuple[int, bytes, Kind], ...]] = (
    (0, b"\xff\xd8\xff", JPEG),
    (0, b"\x89PNG\r\n\x1a\n", PNG),
    (0, b"GIF87a", GIF),
    (0, b"GIF89a", GIF),
    (0, b"II*\x00", Kind("image/tiff", Modality.IMAGE, "a TIFF image")),
    (0, b"MM\x00*", Kind("image/tiff", Modality.IMAGE, "a TIFF image")),
    (0, b"8BPS\x00\x01", Kind("image/vnd.adobe.photoshop", Modality.IMAGE, "a Photoshop image")),
    (0, b"\x00\x00\x01\x00", Kind("image/vnd.microsoft.icon", Modality.IMAGE, "an icon")),
    (0, b"\x00\x00\x00\x0cjP  \r\n\x87\n", Kind("image/jp2", Modality.IMAGE, "a JPEG 2000 image")),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", Kind("image/jxl", Modality.IMAGE, "a JPEG XL image")),
    (0, b"\xff\x0a", Kind("image/jxl", Modality.IMAGE, "a JPEG XL image")),
    (0, b"%PDF-", PDF),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", OLE2),
    (0, b"PK\x03\x04", ZIP),
    (0, b"PK\x05\x06", ZIP),
    (0, b"\x1f\x8b", Kind("application/gzip", None, "a gzip file")),
    (0, b"\x28\xb5\x2f\xfd", Kind("application/zstd", None, "a Zstandard file")),
    (0, b"\xfd7zXZ\x00", Kind("application/x-xz", None, "an xz file")),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("application/x-7z-compressed", None, "a 7-Zip archive")),
    (0, b"Rar!\x1a\x07", Kind("application/vnd.rar", None, "a RAR archive")),
    (257, b"ustar", Kind("application/x-tar", None, "a tar archive")),
    (0, b"\x93NUMPY", Kind("application/x-npy", None, "a NumPy array")),
    (0, b"MThd\x00\x00\x00\x06", Kind("audio/midi", Modality.AUDIO, "a MIDI file")),
    (0, b"fLaC\x00", Kind("audio/flac", Modality.AUDIO, "FLAC audio")),
    (0, b"fLaC\x80", Kind("audio/flac", Modality.AUDIO, "FLAC audio")),
    (0, b"#!AMR", Kind("audio/amr", Modality.AUDIO, "AMR audio")),
    (0, b".snd\x00", Kind("audio/basic", Modality.AUDIO, "AU audio")),
    (0, b"FLV\x01", Kind("video/x-flv", Modality.VIDEO, "Flash video")),
    (0, b"\x00\x00\x01\xba", Kind("video/mpeg", Modality.VIDEO, "MPEG video")),
    (0, b"\x00\x00\x01\xb3", Kind("video/mpeg", Modality.VIDEO, "MPEG video")),
)

_RIFF: Final = {
    b"WAVE": Kind("audio/wav", Modality.AUDIO, "WAV audio"),
    b"AVI ": Kind("video/x-msvideo", Modality.VIDEO, "AVI video"),
    b"WEBP": WEBP,
}
_MP3: Final = Kind("audio/mpeg", Modality.AUDIO, "MP3 audio")
_MP4: Final = Kind("video/mp4", Modality.VIDEO, "MP4 video")
#: The major brand of an ISO base media file; any other brand is MP4 video.
_BRANDS: Final = {
    b"heic": Kind("image/heic", Modality.IMAGE, "a HEIC image"),
    b"heix": Kind("image/heic", Modality.IMAGE, "a HEIC image"),
    b"mif1": Kind("image/heif", Modality.IMAGE, "a HEIF image"),
    b"avif": Kind("image/avif", Modality.IMAGE, "an AVIF image"),
    b"avis": Kind("image/avif", Modality.IMAGE, "an AVIF image"),
    b"M4A ": Kind("audio/mp4", Modality.AUDIO, "M4A audio"),
    b"M4B ": Kind("audio/mp4", Modality.AUDIO, "M4B audio"),
    b"qt  ": Kind("video/quicktime", Modality.VIDEO, "QuickTime video"),
}


def _find_riff(head: bytes) -> Kind | None:
    return _RIFF.get(head[8:12]) if head.startswith((b"RIFF", b"RF64")) else None


def _find_iff(head: bytes) -> Kind | None:
    if head.startswith(b"FORM") and head[8:12] in {b"AIFF", b"AIFC"}:
        return Kind("audio/aiff", Modality.AUDIO, "AIFF audio")
    return None


def _find_iso_media(head: bytes) -> Kind | None:
    if head[4:8] != b"ftyp":
        return None
    brand = head[8:12]
    if brand.startswith(b"3g"):
        return Kind("video/3gpp", Modality.VIDEO, "3GPP video")
    return _BRANDS.get(brand, _MP4)


def _find_ogg(head: bytes) -> Kind | None:
    if not head.startswith(b"OggS\x00"):
        return None
    if b"\x80theora" in head[:256]:
        return Kind("video/ogg", Modality.VIDEO, "Ogg video")
    return Kind("audio/ogg", Modality.AUDIO, "Ogg audio")


def _find_ebml(head: bytes) -> Kind | None:
    if not head.startswith(b"\x1aE\xdf\xa3"):
        return None
    if b"webm" in head[:64]:
        return Kind("video/webm", Modality.VIDEO, "WebM video")
    return Kind("video/x-matroska", Modality.VIDEO, "Matroska video")


def _find_asf(head: bytes) -> Kind | None:
    if head.startswith(b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\x00\xaa\x00b\xcel"):
        return Kind("video/x-ms-asf", Modality.VIDEO, "Windows Media")
    return None


def _find_bmp(head: bytes) -> Kind | None:
    # Two letters are weak evidence; the four reserved bytes after the size must be zero as well.
    if head.startswith(b"BM") and head[6:10] == b"\x00\x00\x00\x00":
        return Kind("image/bmp", Modality.IMAGE, "a BMP image")
    return None


def _find_mpeg_ts(head: bytes) -> Kind | None:
    packet, wanted = 188, 4
    if len(head) > packet * (wanted - 1) and all(head[i * packet] == ord("G") for i in range(wanted)):
        return Kind("video/mp2t", Modality.VIDEO, "an MPEG transport stream")
    return None


def _find_mp3(head: bytes) -> Kind | None:
    if head.startswith((b"ID3\x02", b"ID3\x03", b"ID3\x04")):
        return _MP3
    length = _mp3_frame_length(head[:4])
    # A sync word alone is 11 bits: the next frame has to start where the first one ends.
    if length and _mp3_frame_length(head[length : length + 4]):
        return _MP3
    return None


#: Layer III bit rates in kbit/s by index 1 to 14, for MPEG-1 and for MPEG-2 and 2.5.
_BIT_RATES: Final = (
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
#: Sample rates in Hz by version bits (0: MPEG-2.5, 2: MPEG-2, 3: MPEG-1) and rate bits.
_SAMPLE_RATES: Final = {
    0: (11025, 12000, 8000),
    2: (22050, 24000, 16000),
    3: (44100, 48000, 32000),
}
_LAYER_III: Final = 1
_MPEG_1: Final = 3
_NO_RATE: Final = 3
_FRAME_HEADER_BYTES: Final = 4
_SYNC: Final = 0xFFE0


def _is_sync(header: bytes) -> bool:
    return int.from_bytes(header[:2]) & _SYNC == _SYNC


def _mp3_frame_length(header: bytes) -> int:
    """Bytes of the Layer III frame that starts with ``header``; 0 if it is none."""
    if len(header) < _FRAME_HEADER_BYTES or not _is_sync(header):
        return 0
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    bit_rate, sample_rate = header[2] >> 4, header[2] >> 2 & 3
    if version not in _SAMPLE_RATES or layer != _LAYER_III or bit_rate in {0, 15}:
        return 0
    if sample_rate == _NO_RATE:
        return 0
    is_mpeg_1 = version == _MPEG_1
    kbit_s = _BIT_RATES[0 if is_mpeg_1 else 1][bit_rate - 1]
    padding = header[2] >> 1 & 1
    return (144 if is_mpeg_1 else 72) * kbit_s * 1000 // _SAMPLE_RATES[version][sample_rate] + padding


_FINDERS: Final[tuple[Callable[[bytes], Kind | None], ...]] = (
    _find_riff,
    _find_iff,
    _find_iso_media,
    _find_ogg,
    _find_ebml,
    _find_asf,
    _find_bmp,
    _find_mpeg_ts,
    _find_mp3,
)


def find_binary(head: bytes) -> Kind | None:
    """Recognise a format whose content is not text, by its first bytes."""
    for offset, magic, kind in _FIXED:
        if head.startswith(magic, offset):
            return kind
    for find in _FINDERS:
        kind_found = find(head)
        if kind_found is not None:
            return kind_found
    return None


def find_textual(head: bytes) -> Kind | None:
    """Recognise a format that is written in text but is not meant to be read as such."""
    start = head.removeprefix(b"\xef\xbb\xbf")[:1024].lstrip()
    if start.startswith(b"%PDF-"):
        return PDF
    if start.startswith(b"%!PS-Adobe"):
        return Kind("application/postscript", Modality.DOCUMENT, "a PostScript document")
    if start.startswith(b"{\\rtf1"):
        return Kind("application/rtf", Modality.DOCUMENT, "an RTF document")
    if start.startswith(b"<svg") or (start.startswith(b"<?xml") and b"<svg" in start):
        return SVG
    return None
