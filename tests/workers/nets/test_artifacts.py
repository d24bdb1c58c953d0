"""An artifact is rebuilt anywhere to the same vectors, and one that is not ours is refused."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from workers.nets.contracts import BagInput, FeaturesInput, ImageInput, InputContract, TokensInput
from workers.nets.manifest import ArtifactRefused, Manifest, load_artifact, save_artifact
from workers.nets.table import NETS, build_net
from workers.nets.validation import InvalidConfig


def tokenizer() -> Tokenizer:
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "red": 1, "green": 2, "blue": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return words


def artifact(folder: Path, *, kind: str = "image") -> Path:
    torch.manual_seed(4)
    contract: InputContract
    if kind == "image":
        net, contract, words = build_net("conv_encoder", {"latent_dim": 8}), ImageInput(side=28), None
    elif kind == "tokens":
        config = {"vocabulary_size": 4, "hidden": 5, "bidirectional": True, "num_layers": 2, "cell": "gru"}
        net, contract, words = build_net("rnn_tagger_encoder", config), TokensInput(max_length=9), tokenizer()
    else:
        config = {"shape": [4], "hidden": [6], "latent_dim": 3, "variational": True}
        net, contract, words = build_net("mlp_encoder", config), BagInput(vocabulary_size=4), tokenizer()
    manifest = Manifest(net="", config={}, input=contract, dimension=net.dimension, normalize=True)
    save_artifact(folder, manifest, net, card="# A card", tokenizer=words)
    return folder


_ELSEWHERE = """
import sys, json
import numpy as np
from pathlib import Path
from workers.nets.manifest import load_artifact
items = json.loads(sys.argv[2])
if not isinstance(items[0], str):
    items = [np.array(item, np.uint8) for item in items]
print(json.dumps(load_artifact(Path(sys.argv[1])).embed(items).tolist()))
assert not any(name.split(".")[0] in {"towhee", "nats", "litestar"} for name in sys.modules)
"""


@pytest.mark.parametrize("kind", ["image", "text", "tokens"])
def test_another_process_gets_the_same_vectors(kind: str, tmp_path: Path) -> None:
    folder = artifact(tmp_path / "art", kind=kind)
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (3, 28, 28), np.uint8)
    items: Any = list(pictures) if kind == "image" else ["red red blue", "", "green unknown"]
    here = load_artifact(folder).embed(items)

    plain = json.dumps(pictures.tolist() if kind == "image" else items)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _ELSEWHERE, str(folder), plain],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    np.testing.assert_allclose(here, np.array(json.loads(done.stdout), np.float32), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(here, axis=1), 1, atol=1e-5)


class Planted:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self._trace,)


def test_a_planted_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    import hashlib  # noqa: PLC0415

    folder, trace = artifact(tmp_path / "art"), tmp_path / "trace"
    planted = pickle.dumps(Planted(trace))
    (folder / "weights.safetensors").write_bytes(planted)
    with pytest.raises(ArtifactRefused, match="not the file that the manifest names"):
        load_artifact(folder)

    # Even when whoever planted it changed the manifest as well.
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["weights.safetensors"] = hashlib.sha256(planted).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactRefused, match="can't be rebuilt"):
        load_artifact(folder)

    assert not trace.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net": "os.system"}, "no net 'os.system'"),
        ({"config": {"latent_dim": 0}}, "config.latent_dim"),
        ({"config": {"latent_dim": 9}}, "can't be rebuilt"),
        ({"dimension": 7}, "gives 8 numbers, the manifest says 7"),
        ({"files": {"../../etc/passwd": "0" * 64}}, "has no file"),
        ({"format_version": 2}, "format 2"),
        ({"extra": 1}, "extra"),
        ({"input": {"type": "pickle"}}, "input"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = artifact(tmp_path / "art")
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    with pytest.raises(ArtifactRefused, match=message):
        load_artifact(folder)


def test_a_folder_with_something_in_it_is_not_written_over(tmp_path: Path) -> None:
    folder = artifact(tmp_path / "art")

    with pytest.raises(FileExistsError):
        artifact(folder)


@pytest.mark.parametrize("name", sorted(NETS))
def test_every_net_of_the_table_is_built_from_its_defaults_and_how_many_words_there_are(name: str) -> None:
    sizes = {"vocabulary_size", "target_size"} & set(NETS[name].config_type.__struct_fields__)

    net = build_net(name, dict.fromkeys(sizes, 9))

    assert name == net.net_name
    assert net.config == msgspec.convert(msgspec.to_builtins(net.config), type(net.config))


def test_a_wrong_net_config_is_said_in_full() -> None:
    with pytest.raises(InvalidConfig) as found:
        build_net("conv_autoencoder", {"side": 27, "latent_dim": "many", "colour": True})

    assert {("config", "side"), ("config", "latent_dim"), ("config", "colour")} == {
        problem.path for problem in found.value.problems
    }


def test_pictures_of_any_kind_become_the_same_batch() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (28, 28), np.uint8)
    contract = ImageInput(side=28)

    batch = contract.prepare(
        [Image.fromarray(pixels), pixels, pixels[..., None], torch.from_numpy(pixels)[None]]
    )

    assert (4, 1, 28, 28) == tuple(batch.shape)
    assert bool((batch == batch[0]).all())
    assert float(batch.max()) == pixels.max() / 255
    colour = ImageInput(side=14, channels=3, mean=0.5, std=0.5).prepare([pixels])
    assert (1, 3, 14, 14) == tuple(colour.shape)


def test_texts_become_counts_or_padded_numbers() -> None:
    counts = BagInput(vocabulary_size=4).prepare(["red red blue", "what"], tokenizer())
    assert [[0, 2, 0, 1], [0, 0, 0, 0]] == counts.tolist()

    tokens = TokensInput(max_length=2).prepare(["red red blue", "", "blue"], tokenizer())
    assert [[1, 1], [0, 0], [3, 0]] == tokens["ids"].tolist()
    assert [2, 1, 1] == tokens["ids_lengths"].tolist()


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="rows of 3 numbers"):
        FeaturesInput(num_features=3).prepare([[1.0, 2.0]])
