"""The state of every random generator that training may draw from."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch


class RngState(NamedTuple):
    """Python's, NumPy's, torch's CPU and torch's CUDA generators (one a device, empty without)."""

    python: Any
    numpy: Any
    torch: torch.Tensor
    cuda: list[torch.Tensor]


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and torch on all devices."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  the generator that datasets and Towhee use
    torch.manual_seed(seed)


def capture_rng() -> RngState:
    """All generators as they are now."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    numpy_state = (str(name), torch.from_numpy(np.array(keys, np.int64)), position, has_gauss, gauss)
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = torch.cuda.get_rng_state_all() if used else []
    return RngState(random.getstate(), numpy_state, torch.get_rng_state(), cuda)


def restore_rng(state: RngState) -> None:
    """Put all generators back. CUDA states are used as far as there are devices."""
    random.setstate(state.python)
    name, keys, position, has_gauss, gauss = state.numpy
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    torch.set_rng_state(state.torch)
    if state.cuda and torch.cuda.is_available():
        for device, cuda_state in enumerate(state.cuda[: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(cuda_state, device)


@contextmanager
def isolated_rng(seed: int) -> Iterator[None]:
    """Seed all generators, and put them back afterwards: what happens inside leaves no trace in training."""
    kept = capture_rng()
    seed_all(seed)
    try:
        yield
    finally:
        restore_rng(kept)
