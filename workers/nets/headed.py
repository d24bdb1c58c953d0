"""Encoders of operators with the classifier that was learnt on them: what fine-tuning can go on from."""

from types import MappingProxyType
from typing import Annotated

import msgspec
from msgspec import Meta

from workers.nets.efficientnet import EfficientNetLite0, EfficientNetLite0Config
from workers.nets.parts import Entries, Net, NetEntry
from workers.nets.sentences import SentenceBert, SentenceBertConfig
from workers.nets.staged import Headed, StagedNet

Classes = Annotated[int, Meta(ge=2, le=10_000)]


class HeadedLite0Config(EfficientNetLite0Config, frozen=True):
    """The encoder's, and how many classes there are."""

    num_classes: Classes = 2


class HeadedSentencesConfig(SentenceBertConfig, frozen=True):
    """The encoder's, and how many classes there are."""

    num_classes: Classes = 2


class HeadedNet(Headed, Net):
    """`Headed` under a name in the table; its embedding is the encoder's."""

    def __init__(self, backbone: StagedNet, num_classes: int) -> None:
        Headed.__init__(self, backbone, num_classes)

    @property
    def dimension(self) -> int:
        """The encoder's."""
        return self.backbone.dimension


#: The name that an encoder of the table has with a classifier on it.
HEADED: MappingProxyType[str, str] = MappingProxyType(
    {"efficientnet_lite0": "headed_lite0", "sentence_bert": "headed_sentences"}
)


def _lite0(config: HeadedLite0Config) -> HeadedNet:
    return HeadedNet(EfficientNetLite0(config), config.num_classes)


def _sentences(config: HeadedSentencesConfig) -> HeadedNet:
    return HeadedNet(SentenceBert(config), config.num_classes)


def headed_config(net: StagedNet, num_classes: int) -> dict[str, object]:
    """What an encoder with a classifier is built from."""
    plain: dict[str, object] = msgspec.to_builtins(net.config)
    return {**plain, "num_classes": num_classes}


ENTRIES: Entries = MappingProxyType(
    {
        "headed_lite0": NetEntry(HeadedLite0Config, _lite0),
        "headed_sentences": NetEntry(HeadedSentencesConfig, _sentences),
    }
)
