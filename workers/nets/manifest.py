"""Artifacts: a trained encoder as a folder that any process can rebuild it from.

``manifest.json`` names the net (of the closed table), its config and what it takes; ``weights.safetensors``
holds its numbers, ``tokenizer.json`` its words, ``README.md`` is the model card. Nothing else is read, and
nothing is ever unpickled: a file that is not what the manifest says is refused.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import torch
from msgspec import Meta
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from workers.nets.contracts import BagInput, InputContract, TokensInput
from workers.nets.parts import Net
from workers.nets.table import build_net, config_of
from workers.nets.validation import InvalidConfig, convert

MANIFEST_FILE = "manifest.json"
WEIGHTS_FILE = "weights.safetensors"
TOKENIZER_FILE = "tokenizer.json"
CARD_FILE = "README.md"
FORMAT_VERSION = 1
#: A manifest longer than this was not written by us.
_MOST_MANIFEST_BYTES = 1 << 20

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class ArtifactRefused(Exception):
    """An artifact can't be trusted or can't be rebuilt; the message says why."""


class DataRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model was trained on."""

    name: str = "unknown"
    sha256: str = ""
    num_rows: int | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that another process has to know about an encoder. ``files`` maps names to digests."""

    net: str
    config: dict[str, Any]
    input: InputContract
    dimension: Annotated[int, Meta(ge=1)]
    files: dict[str, Sha256] = {}
    normalize: bool = False
    trainer: str = ""
    metrics: dict[str, float] = {}
    data: DataRecord = DataRecord()
    seed: int = 0
    versions: dict[str, str] = {}
    format_version: int = FORMAT_VERSION


class Artifact(NamedTuple):
    """A rebuilt encoder, in eval mode."""

    manifest: Manifest
    net: Net
    tokenizer: Tokenizer | None

    def prepare(self, items: Sequence[Any]) -> Any:  # noqa: ANN401  what the net's contract makes of it
        """Items as the input contract describes them, as a batch for the net."""
        contract = self.manifest.input
        if isinstance(contract, BagInput | TokensInput):
            if self.tokenizer is None:
                raise ArtifactRefused("the artifact takes texts, but has no tokenizer")
            return contract.prepare(items, self.tokenizer)
        return contract.prepare(items)

    @torch.no_grad()
    def embed(self, items: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The embeddings (B, D), float32, of unit length if the manifest says so."""
        vectors = self.net.encode(self.prepare(items)).float()
        if self.manifest.normalize:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        return np.asarray(vectors.numpy())


def save_artifact(
    folder: Path, manifest: Manifest, net: Net, *, card: str, tokenizer: Tokenizer | None = None
) -> Manifest:
    """Write an artifact into a new or empty folder; gives the manifest with net, config and digests.

    Raises:
        FileExistsError: there is something in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    save_file(
        {name: tensor.detach().cpu().clone().contiguous() for name, tensor in net.state_dict().items()},
        folder / WEIGHTS_FILE,
    )
    names = [WEIGHTS_FILE]
    if tokenizer is not None:
        (folder / TOKENIZER_FILE).write_text(tokenizer.to_str(), encoding="utf-8")
        names.append(TOKENIZER_FILE)
    files = {name: _digest(folder / name) for name in names}
    filled = msgspec.structs.replace(manifest, net=net.net_name, config=config_of(net), files=files)
    (folder / CARD_FILE).write_text(card, encoding="utf-8")
    # Last: a folder without a manifest is not an artifact.
    (folder / MANIFEST_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(filled), indent=2))
    return filled


def load_artifact(folder: Path, device: torch.device | str = "cpu") -> Artifact:
    """Rebuild an encoder.

    Raises:
        ArtifactRefused: a file is missing, is not the one in the manifest, or is not what it should be.
    """
    manifest = read_manifest(folder)
    foreign = sorted(set(manifest.files) - {WEIGHTS_FILE, TOKENIZER_FILE})
    if foreign:
        raise ArtifactRefused(f"an artifact has no file {foreign[0]!r}")
    for name in {WEIGHTS_FILE, *manifest.files}:
        path = folder / name
        if not path.is_file() or _digest(path) != manifest.files.get(name):
            raise ArtifactRefused(f"{name} is not the file that the manifest names")
    try:
        net = build_net(manifest.net, manifest.config)
        net.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (InvalidConfig, SafetensorError, RuntimeError, ValueError) as error:
        raise ArtifactRefused(f"{manifest.net} can't be rebuilt: {error}") from error
    if net.dimension != manifest.dimension:
        raise ArtifactRefused(
            f"{manifest.net} gives {net.dimension} numbers, the manifest says {manifest.dimension}"
        )
    tokenizer = _tokenizer(folder) if TOKENIZER_FILE in manifest.files else None
    return Artifact(manifest, net.to(device).eval(), tokenizer)


def read_manifest(folder: Path) -> Manifest:
    """Only the manifest.

    Raises:
        ArtifactRefused: there is none, or it says something that can't be.
    """
    path = folder / MANIFEST_FILE
    try:
        if path.stat().st_size > _MOST_MANIFEST_BYTES:
            raise ArtifactRefused("the manifest is too long")
        manifest = convert(_plain(path.read_bytes()), Manifest)
    except OSError as error:
        raise ArtifactRefused(f"there is no manifest in {folder}") from error
    except (msgspec.DecodeError, InvalidConfig) as error:
        raise ArtifactRefused(f"the manifest is not valid: {error}") from error
    if manifest.format_version != FORMAT_VERSION:
        raise ArtifactRefused(f"the manifest has format {manifest.format_version}, this is {FORMAT_VERSION}")
    return manifest


def _plain(content: bytes) -> Mapping[str, object]:
    plain: Mapping[str, object] = msgspec.json.decode(content, type=dict[str, Any])
    return plain


def _tokenizer(folder: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))
    except Exception as error:  # the library raises nothing more precise
        raise ArtifactRefused(f"the tokenizer can't be read: {error}") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
