"""Nested state as JSON plus tensors, both ways, without pickle.

JSON keeps what it can say itself; the rest is marked: ``{"$tensor": name}``, ``{"$tuple": [...]}`` and, for
dicts whose keys are not all strings, ``{"$items": [[key, value], ...]}``. Floats survive exactly.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_TENSOR, _TUPLE, _ITEMS = "$tensor", "$tuple", "$items"


class NotStorable(TypeError):
    """A state holds something that is neither plain data nor a tensor; the message names its place."""


def encode(value: Any, tensors: dict[str, Tensor], path: str) -> Any:  # noqa: ANN401  any plain state
    """Plain data for JSON. Tensors go to ``tensors`` under their path, as they are: see `detached`.

    Raises:
        NotStorable: something else was found.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        tensors[path] = value
        return {_TENSOR: path}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: encode(part, tensors, f"{path}.{key}") for key, part in value.items()}
        pairs = [
            [encode(key, tensors, f"{path}.key"), encode(part, tensors, f"{path}.{key}")]
            for key, part in value.items()
        ]
        return {_ITEMS: pairs}
    if isinstance(value, list | tuple):
        parts = [encode(part, tensors, f"{path}.{at}") for at, part in enumerate(value)]
        return parts if isinstance(value, list) else {_TUPLE: parts}
    raise NotStorable(f"{path} is a {type(value).__name__}: a state holds plain data and tensors")


def decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:  # noqa: ANN401  any plain state
    """What `encode` was given."""
    if isinstance(value, list):
        return [decode(part, tensors) for part in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    if _TUPLE in value:
        return tuple(decode(part, tensors) for part in value[_TUPLE])
    if _ITEMS in value:
        return {decode(key, tensors): decode(part, tensors) for key, part in value[_ITEMS]}
    return {key: decode(part, tensors) for key, part in value.items()}


def detached(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies in main memory that training can't change any more, one transfer for all."""
    copies = {
        name: tensor.detach().to("cpu", non_blocking=True, copy=True).contiguous()
        for name, tensor in tensors.items()
    }
    if any(tensor.is_cuda for tensor in tensors.values()):
        torch.cuda.synchronize()
    return copies
