"""What a batch may look like, and getting it to the device."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

#: Names under which a dict may hold what is to be learned.
TARGET_NAMES = ("labels", "label", "targets", "target", "y")


def to_device(batch: Any, device: torch.device) -> Any:  # noqa: ANN401  any nesting of tensors
    """The same nesting with all tensors on ``device``; what has no ``to`` stays as it is.

    A packed sequence is moved as a whole: its ``batch_sizes`` have to stay in main memory.
    """
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, PackedSequence):
        return batch.to(device)  # type: ignore[arg-type]
    if isinstance(batch, Mapping):
        return {name: to_device(part, device) for name, part in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(part, device) for part in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(part, device) for part in batch)
    return batch.to(device) if hasattr(batch, "to") else batch


def split_batch(batch: Any) -> tuple[Any, Any]:  # noqa: ANN401  any nesting of tensors
    """Inputs and targets: the first two of a sequence, or the rest of a dict and its entry of `TARGET_NAMES`.

    Raises:
        ValueError: it has no targets.
    """
    if isinstance(batch, Mapping):
        for name in TARGET_NAMES:
            if name in batch:
                inputs = {key: value for key, value in batch.items() if key != name}
                return (next(iter(inputs.values())) if len(inputs) == 1 else inputs), batch[name]
        raise ValueError(
            f"a batch as a dict needs one of {', '.join(TARGET_NAMES)}; it has {', '.join(map(str, batch))}"
        )
    if isinstance(batch, list | tuple) and len(batch) > 1:
        return batch[0], batch[1]
    raise ValueError(f"a batch of inputs and targets is needed, not a {type(batch).__name__}")


def inputs_of(batch: Any) -> Any:  # noqa: ANN401  any nesting of tensors
    """The inputs of a batch that may or may not have targets."""
    if isinstance(batch, Mapping):
        kept = {name: value for name, value in batch.items() if name not in TARGET_NAMES}
        return next(iter(kept.values())) if len(kept) == 1 else kept
    return batch[0] if isinstance(batch, list | tuple) else batch


def apply_model(model: nn.Module, inputs: Any) -> Any:  # noqa: ANN401  whatever the model gives
    """Call the model: a dict's entries go in by name."""
    return model(**inputs) if isinstance(inputs, Mapping) else model(inputs)


def num_rows(batch: Any) -> int:  # noqa: ANN401  any nesting of tensors
    """Rows of a batch: the length of the first tensor in it, 1 when there is none."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.dim() else 1
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, list | tuple) else ()
    for part in parts:
        return num_rows(part)
    return 1
