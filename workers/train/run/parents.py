"""Beginning with the weights of an earlier model."""

from pathlib import Path

from torch import nn

from workers.nets.columns import ColumnsAutoencoder, standardising
from workers.nets.manifest import Artifact, load_artifact
from workers.nets.parts import Net
from workers.nets.table import config_of
from workers.train.run.problems import CannotTrain

#: Where an exported model keeps its two artifacts.
ENCODER_FOLDER, NET_FOLDER = "encoder", "net"


def open_parent(folder: Path) -> Artifact:
    """The whole net of an exported model.

    Raises:
        CannotTrain: the model was exported without it.
        ArtifactRefused: it can't be trusted.
    """
    if not (folder / NET_FOLDER).is_dir():
        raise CannotTrain("the parent model holds nothing that training could go on from")
    return load_artifact(folder / NET_FOLDER)


def take_weights(model: nn.Module, built: Net, parent: Artifact) -> None:
    """Give ``model`` the parent's weights; ``built`` is the net of the table that it is.

    Raises:
        CannotTrain: the parent is another net, or one of another config.
    """
    net = parent.net
    if net.net_name != built.net_name:
        raise CannotTrain(
            f"the parent model is of another kind: {_words(net.net_name)}, not {_words(built.net_name)}",
            "Choose the trainer and the kind of data that the parent was trained with.",
        )
    theirs, ours = config_of(net), config_of(built)
    differing = [name for name in ours if theirs.get(name) != ours[name]]
    if differing:
        told = ", ".join(
            f"{_words(name)} is {theirs.get(name)} there and {ours[name]} here" for name in differing
        )
        raise CannotTrain(
            f"the parent model is not of the same size: {told}",
            "Give the parameters and classes that the parent was trained with.",
        )
    if isinstance(net, ColumnsAutoencoder):
        # The new rows are standardised by their own columns.
        net = standardising(net, net.mean_F * 0, net.spread_F * 0 + 1)
    model.load_state_dict(net.state_dict())


def _words(name: str) -> str:
    return name.replace("_", " ")
