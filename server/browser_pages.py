"""Pages of ours and the scripts they load, out of folders in the package: no byte comes from another host."""

import gzip
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import msgspec
from litestar import Response
from litestar.exceptions import NotFoundException

#: Scripts and styles come from here alone, and nothing may frame the page. Editors set styles inline.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
_CACHE_FOR_A_DAY = "public, max-age=86400"
_TYPES: Mapping[str, str] = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
}


class _File(msgspec.Struct, frozen=True):
    body: bytes
    media_type: str
    etag: str
    is_compressed: bool


class PageFolder:
    """The files of a page.

    Vendored ones lie there compressed and are sent so. A file is read when it is first asked for.

    Args:
        folders: where files are looked for; those that end in ``.gz`` go by the name without it.
    """

    def __init__(self, *folders: Path) -> None:
        self._paths = {
            path.name.removesuffix(".gz"): path
            for folder in folders
            for path in folder.iterdir()
            if Path(path.name.removesuffix(".gz")).suffix in _TYPES
        }
        self._files: dict[str, _File] = {}

    def page(self, name: str) -> Response[bytes]:
        """Answer with a page; it is asked for again each time, so that a new release shows at once."""
        file = self._read(name)
        headers = {"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache"}
        return Response(file.body, media_type=file.media_type, headers=headers)

    def part(self, name: str, request_headers: Mapping[str, str]) -> Response[bytes]:
        """Answer with a script or a style.

        Raises:
            NotFoundException: there is none of that name.
        """
        file = self._read(name)
        headers = {"Cache-Control": _CACHE_FOR_A_DAY, "ETag": file.etag, "Vary": "Accept-Encoding"}
        if request_headers.get("if-none-match") == file.etag:
            return Response(b"", status_code=304, headers=headers)
        body = file.body
        if file.is_compressed:
            if "gzip" in request_headers.get("accept-encoding", ""):
                headers["Content-Encoding"] = "gzip"
            else:
                body = gzip.decompress(body)
        return Response(body, media_type=file.media_type, headers=headers)

    def _read(self, name: str) -> _File:
        if name not in self._files:
            path = self._paths.get(name)
            if path is None:
                raise NotFoundException("There is no such file.")
            body = path.read_bytes()
            self._files[name] = _File(
                body=body,
                media_type=_TYPES[Path(name).suffix],
                etag=f'"{sha256(body).hexdigest()[:32]}"',
                is_compressed=path.suffix == ".gz",
            )
        return self._files[name]
