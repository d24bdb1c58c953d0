"""The files of deployed models on this machine's disk, bounded: what was asked for longest ago goes first."""

import asyncio
import hashlib
import logging
import re
import shutil
import tempfile
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from bus.errors import ObjectNotFound
from bus.messages import DeployedModel
from bus.objects import ObjectStore
from workers.embed.items import ModelNotAtHand, ModelRefused

logger = logging.getLogger(__name__)

MANIFEST_FILE = "manifest.json"
#: What an artifact may consist of; `workers.nets.manifest` says the same, and loads torch.
_FILES = frozenset({"weights.safetensors", "tokenizer.json"})
_MOST_MANIFEST_BYTES = 1 << 20
_PARTIAL = ".partial-"
#: Ids are ours and digests are hexadecimal; as parts of paths they are looked at all the same.
_SAFE = re.compile(r"[A-Za-z0-9_-]{1,64}")

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class _Owner(msgspec.Struct, frozen=True):
    """``models/<model_id>/owner.json``."""

    owner_id: str
    model_id: str
    manifest_sha256: str


class _Manifest(msgspec.Struct, frozen=True):
    """The part of a manifest that says what else there is."""

    files: dict[str, Sha256]


def name_of(model: DeployedModel) -> str:
    """A name that no other model and no other version of this one has.

    Raises:
        ModelRefused: it is none of our models.
    """
    if not (_SAFE.fullmatch(model.model_id) and _SAFE.fullmatch(model.manifest_sha256)):
        raise no_such_model()
    return f"{model.model_id}.{model.manifest_sha256}"


def no_such_model() -> ModelRefused:
    """Say that there is no such model, the same whether there is none or it is somebody else's."""
    return ModelRefused("NOT_FOUND", "There is no such model.")


class ModelFiles:
    """Fetches artifacts into a folder of its own. One caller at a time, except for `held` and `size_of`."""

    def __init__(self, objects: ObjectStore, folder: Path, *, max_bytes: int) -> None:
        self._objects = objects
        self._folder = folder
        self.max_bytes = max_bytes
        self._held: Counter[str] = Counter()
        #: Bytes of each complete artifact, by name; the first was asked for longest ago.
        self._sizes: OrderedDict[str, int] = OrderedDict()

    @property
    def folder(self) -> Path:
        """Where a complete artifact lies in the folder `name_of` it."""
        return self._folder

    def open(self) -> None:
        """Make the folder, or find again what an earlier worker left in it; blocking.

        Raises:
            OSError: it can't be made or read.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in found:
            if path.name.startswith(_PARTIAL):
                shutil.rmtree(path, ignore_errors=True)
            elif (path / MANIFEST_FILE).is_file():
                self._sizes[path.name] = _bytes_in(path)
        while sum(self._sizes.values()) > self.max_bytes:
            name, _ = self._sizes.popitem(last=False)
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def size_of(self, model: DeployedModel) -> int:
        """Bytes of what was fetched."""
        return self._sizes[name_of(model)]

    @contextmanager
    def held(self, model: DeployedModel) -> Iterator[None]:
        """Keep what was fetched until the block ends."""
        name = name_of(model)
        self._held[name] += 1
        try:
            yield
        finally:
            self._held[name] -= 1
            if not self._held[name]:
                del self._held[name]

    async def check_owner(self, model: DeployedModel) -> None:
        """Compare what is asked for with what was written beside the model.

        Raises:
            ModelRefused: there is no such model, or it is somebody else's, which looks the same.
            ObjectStoreError: nobody knows now.
        """
        name_of(model)
        try:
            raw = await self._read(f"models/{model.model_id}/owner.json", most_bytes=_MOST_MANIFEST_BYTES)
            owner = msgspec.json.decode(raw, type=_Owner)
        except (ObjectNotFound, msgspec.DecodeError) as error:
            raise no_such_model() from error
        if owner != _Owner(model.owner_id, model.model_id, model.manifest_sha256):
            raise no_such_model()

    async def fetch(self, model: DeployedModel) -> bool:
        """Make sure that the model's artifact is here; give whether it had to be fetched.

        Raises:
            ModelRefused: a file is missing or not what the manifest says, or it is larger than all room.
            ModelNotAtHand: it can't be written, or what is held leaves no room.
            ObjectStoreError: the store fails.
        """
        name = name_of(model)
        if name in self._sizes:
            self._sizes.move_to_end(name)
            return False
        try:
            await self._fetch(model, name)
        except OSError as error:
            raise ModelNotAtHand(f"the files of model {model.model_id} can't be kept: {error}") from error
        except ObjectNotFound as error:
            logger.error("model %s: %s is not there", model.model_id, error)  # noqa: TRY400 - it says all
            raise ModelRefused("INTERNAL", "The model's files are gone.") from error
        return True

    async def drop(self, model: DeployedModel) -> None:
        """Forget what was fetched: it is not what it should be."""
        await self._remove(name_of(model))

    async def _fetch(self, model: DeployedModel, name: str) -> None:
        manifest_key = f"{model.prefix}/{MANIFEST_FILE}"
        manifest = await self._read(manifest_key, most_bytes=_MOST_MANIFEST_BYTES)
        if hashlib.sha256(manifest).hexdigest() != model.manifest_sha256:
            raise _damaged(manifest_key)
        partial = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=_PARTIAL, dir=self._folder))
        try:
            num_bytes = len(manifest)
            for file, sha256 in _files_of(manifest, manifest_key).items():
                num_bytes += await self._download(model, file, sha256, partial, before=num_bytes)
            # Last: a folder without a manifest is no artifact.
            await asyncio.to_thread((partial / MANIFEST_FILE).write_bytes, manifest)
            await asyncio.to_thread(_move, partial, self._folder / name)
        finally:
            await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)
        self._sizes[name] = num_bytes

    async def _download(
        self, model: DeployedModel, file: str, sha256: str, folder: Path, *, before: int
    ) -> int:
        """Fetch one file and give its bytes, of which ``before`` were fetched of the same model."""
        key = f"{model.prefix}/{file}"
        digest, num_bytes = hashlib.sha256(), 0

        def take(chunk: bytes) -> None:
            digest.update(chunk)
            output.write(chunk)

        with (folder / file).open("wb") as output:
            async for chunk in self._objects.stream(key):
                num_bytes += len(chunk)
                await self._ensure_room(before + num_bytes)
                await asyncio.to_thread(take, chunk)
        if digest.hexdigest() != sha256:
            raise _damaged(key)
        return num_bytes

    async def _ensure_room(self, num_bytes: int) -> None:
        """Remove what was not asked for lately until so many bytes fit."""
        if num_bytes > self.max_bytes:
            raise ModelRefused(
                "PIPELINE_UNAVAILABLE",
                f"The model is larger than the {self.max_bytes:,} bytes that a worker has for models.",
            )
        while sum(self._sizes.values()) + num_bytes > self.max_bytes:
            oldest = next((name for name in self._sizes if not self._held[name]), None)
            if oldest is None:
                raise ModelNotAtHand("the models in use leave no room on the disk")
            await self._remove(oldest)

    async def _remove(self, name: str) -> None:
        self._sizes.pop(name, None)
        await asyncio.to_thread(shutil.rmtree, self._folder / name, ignore_errors=True)

    async def _read(self, key: str, *, most_bytes: int) -> bytes:
        content = bytearray()
        async for chunk in self._objects.stream(key):
            content += chunk
            if len(content) > most_bytes:
                raise _damaged(key)
        return bytes(content)


def _files_of(manifest: bytes, key: str) -> dict[str, Sha256]:
    try:
        files = msgspec.json.decode(manifest, type=_Manifest).files
    except msgspec.DecodeError as error:
        raise _damaged(key) from error
    if not files.keys() <= _FILES:
        raise _damaged(key)
    return files


def _damaged(key: str) -> ModelRefused:
    logger.error("%s is not what it should be", key)
    return ModelRefused("INTERNAL", "The model's files are damaged.")


def _move(partial: Path, target: Path) -> None:
    # What is there was not complete when the folder was opened.
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
