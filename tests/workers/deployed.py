"""Small trained models, as a training leaves them in the object store."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from bus.messages import DeployedModel
from bus.objects import ObjectStore
from workers.nets.contracts import BagInput, FeaturesInput, ImageInput, InputContract, TokensInput
from workers.nets.manifest import Manifest, save_artifact
from workers.nets.table import build_net

OWNER = "owner-1"
WORDS = ("the", "lion", "lies", "in", "green", "grass", "and", "sleeps")


def word_tokenizer() -> Tokenizer:
    """A tokenizer of eight words."""
    numbers = {"[PAD]": 0, "[UNK]": 1} | {word: 2 + at for at, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


SIZE = 2 + len(WORDS)
_SENTENCE_BERT = {
    "vocab_size": SIZE,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}
#: A net, its config and what it takes, by what it is.
KINDS: Mapping[str, tuple[str, Mapping[str, object], InputContract]] = {
    "grey pictures": ("conv_encoder", {"latent_dim": 8}, ImageInput(side=28)),
    "coloured pictures": (
        "conv_encoder",
        {"side": 32, "channels": 3, "latent_dim": 5},
        ImageInput(side=32, channels=3, mean=127 / 255, std=128 / 255, resample="bicubic"),
    ),
    "bags of words": (
        "mlp_encoder",
        {"shape": [SIZE], "hidden": [6], "latent_dim": 3, "variational": True},
        BagInput(vocabulary_size=SIZE, skip=2, scale="log"),
    ),
    "pooled words": ("pooled_words", {"vocabulary_size": SIZE, "dimension": 7}, TokensInput(max_length=6)),
    "recurrent": (
        "rnn_tagger_encoder",
        {"vocabulary_size": SIZE, "hidden": 5, "bidirectional": True, "num_layers": 2, "cell": "gru"},
        TokensInput(max_length=9),
    ),
    "sentences": ("sentence_bert", _SENTENCE_BERT, TokensInput(max_length=8)),
    "rows of numbers": ("mlp_encoder", {"shape": [4], "latent_dim": 3}, FeaturesInput(num_features=4)),
}


def make_artifact(folder: Path, kind: str, *, seed: int = 0) -> int:
    """Write the artifact of a net with weights of its own; give its dimension."""
    name, config, contract = KINDS[kind]
    torch.manual_seed(seed)
    net = build_net(name, dict(config))
    manifest = Manifest(net="", config={}, input=contract, dimension=net.dimension)
    tokenizer = word_tokenizer() if isinstance(contract, BagInput | TokensInput) else None
    save_artifact(folder, manifest, net, card="# A card", tokenizer=tokenizer)
    return net.dimension


async def store(objects: ObjectStore, folder: Path, *, dimension: int, owner: str = OWNER) -> DeployedModel:
    """Put an artifact where a train worker puts it; the folder goes."""
    model_id = str(uuid4())
    prefix = f"models/{model_id}/encoder"
    contents = _taken_from(folder)
    for name, content in contents.items():
        await objects.put(f"{prefix}/{name}", content)
    sha256 = hashlib.sha256(contents["manifest.json"]).hexdigest()
    owned = {"owner_id": owner, "model_id": model_id, "manifest_sha256": sha256}
    await objects.put(f"models/{model_id}/owner.json", json.dumps(owned).encode())
    return DeployedModel(
        model_id=model_id, owner_id=owner, prefix=prefix, manifest_sha256=sha256, dimension=dimension
    )


def _taken_from(folder: Path) -> dict[str, bytes]:
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    return contents


async def deploy(
    objects: ObjectStore, folder: Path, kind: str = "pooled words", *, seed: int = 0
) -> DeployedModel:
    """Make a small model of a kind and put it into the object store."""
    dimension = make_artifact(folder, kind, seed=seed)
    return await store(objects, folder, dimension=dimension)
