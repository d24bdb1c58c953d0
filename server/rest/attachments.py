"""Bytes that leave as a download, whatever they are: nothing a user made ever runs on our origin."""

from urllib.parse import quote


def attachment_headers(name: str, byte_size: int | None = None) -> dict[str, str]:
    """Return the headers of a download: a name, a length if it is known, and no way to be shown as a page."""
    length = {} if byte_size is None else {"content-length": str(byte_size)}
    return {
        **length,
        "content-disposition": content_disposition(name),
        "content-security-policy": "default-src 'none'; sandbox",
        "x-content-type-options": "nosniff",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "private, no-store",
    }


def content_disposition(name: str) -> str:
    """Write Content-Disposition: an ASCII name for old clients, then the real one (RFC 6266, RFC 8187)."""
    plain = "".join(
        character if character.isascii() and character.isprintable() and character not in '"\\%' else "_"
        for character in name
    )
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
