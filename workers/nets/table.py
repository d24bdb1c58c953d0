"""The closed table of nets: a name and a config out of a file build nothing that is not listed here."""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from workers.nets import (
    autoencoder,
    classifier,
    columns,
    efficientnet,
    gan,
    headed,
    mlp_gan,
    sentences,
    seq2seq,
    sequences,
    words,
)
from workers.nets.parts import Entries, Net, NetConfig
from workers.nets.validation import InvalidConfig, Problem, check, convert

#: A module of nets adds its ENTRIES here, one line each.
_TABLES: tuple[Entries, ...] = (
    autoencoder.ENTRIES,
    classifier.ENTRIES,
    gan.ENTRIES,
    mlp_gan.ENTRIES,
    words.ENTRIES,
    efficientnet.ENTRIES,
    sentences.ENTRIES,
    sequences.ENTRIES,
    seq2seq.ENTRIES,
    columns.ENTRIES,
    headed.ENTRIES,
)
NETS: Entries = MappingProxyType({name: entry for table in _TABLES for name, entry in table.items()})


def build_net(name: str, config: Mapping[str, object] | NetConfig | None = None) -> Net:
    """A new net with random weights.

    Raises:
        InvalidConfig: no such net, or its config is wrong; every problem with its field's path.
    """
    entry = NETS.get(name)
    if entry is None:
        raise InvalidConfig([Problem(("net",), f"no net {name!r}; known are {', '.join(NETS)}")])
    if isinstance(config, NetConfig):
        made = check(config, ("config",))
    else:
        made = convert(config or {}, entry.config_type, ("config",))
    if not isinstance(made, entry.config_type):
        raise InvalidConfig([Problem(("config",), f"{name} takes {entry.config_type.__name__}")])
    net = entry.build(made)
    net.net_name, net.config = name, made
    return net


def config_of(net: Net) -> dict[str, object]:
    """The config of a net as plain data."""
    plain: dict[str, object] = msgspec.to_builtins(net.config)
    return plain


def part_of(net: Net, name: str) -> Net:
    """The net ``name`` of the same config, with the weights that ``net`` has under the same names.

    Raises:
        KeyError: ``net`` lacks one.
    """
    part = build_net(name, net.config)
    weights = net.state_dict()
    part.load_state_dict({key: weights[key] for key in part.state_dict()})
    return part.train(net.training)
