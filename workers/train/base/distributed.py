"""Data-parallel training over processes that ``torchrun`` started.

Gradients are averaged in flat buckets just before an optimizer step, whatever the trainer did to get them:
two networks, several backward passes, penalties on gradients. Nothing is wrapped, so parameters keep their
names.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

_BUCKET_BYTES = 25 << 20


class Processes(NamedTuple):
    """This process among those that train together."""

    rank: int = 0
    total: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this one writes and reports."""
        return self.rank == 0


def join_processes(device: torch.device) -> Processes:
    """Meet the others: the group that exists, or the one that torchrun's variables describe, or nobody."""
    if not dist.is_available():
        return Processes()
    if not dist.is_initialized():
        if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:  # noqa: PLR2004  alone
            return Processes()
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter], count: int) -> None:
    """The mean over all processes of each gradient; a process without one counts as zeros.

    What is frozen gets none: with one of zeros, momentum and weight decay would still move it.
    """
    gradients = []
    for parameter in parameters:
        if not parameter.requires_grad:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    _mean_in_place(gradients, count)


@torch.no_grad()
def average_buffers(module: nn.Module, count: int) -> None:
    """The mean of all floating buffers (statistics of batches); whole numbers come from the first process."""
    buffers = list(module.buffers())
    _mean_in_place([buffer for buffer in buffers if buffer.is_floating_point()], count)
    for buffer in buffers:
        if not buffer.is_floating_point():
            dist.broadcast(buffer, 0)


@torch.no_grad()
def share_start(module: nn.Module) -> None:
    """Everybody begins with the first process's weights and buffers."""
    for tensor in [*module.parameters(), *module.buffers()]:
        dist.broadcast(tensor.data, 0)


def of_first(values: Sequence[float], device: torch.device) -> list[float]:
    """The numbers that the first process gives, in all of them."""
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.broadcast(tensor, 0)
    return [float(value) for value in tensor.tolist()]


def summed(values: Sequence[float], device: torch.device) -> list[float]:
    """The sums over all processes."""
    # float64 where the device has it; MPS would not, and has no process groups either.
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return [float(value) for value in tensor.tolist()]


def sum_in_place(tensor: Tensor) -> None:
    """The sum over all processes."""
    dist.all_reduce(tensor)


def gathered(value: Any, count: int) -> list[Any]:  # noqa: ANN401  any state
    """The value of each process, by rank. It travels in memory between our own processes."""
    everyone: list[Any] = [None] * count
    dist.all_gather_object(everyone, value)
    return everyone


def _mean_in_place(tensors: list[Tensor], count: int) -> None:
    pending = []
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        pending.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
    for bucket, flat, work in pending:
        work.wait()
        flat.div_(count)
        offset = 0
        for tensor in bucket:
            tensor.copy_(flat[offset : offset + tensor.numel()].view_as(tensor))
            offset += tensor.numel()


def _buckets(tensors: list[Tensor]) -> list[list[Tensor]]:
    """Tensors of one type together, up to the size that keeps the network busy."""
    buckets: list[list[Tensor]] = []
    open_buckets: dict[torch.dtype, tuple[list[Tensor], int]] = {}
    for tensor in tensors:
        bucket, size = open_buckets.get(tensor.dtype, ([], _BUCKET_BYTES))
        if size >= _BUCKET_BYTES:
            bucket, size = [], 0
            buckets.append(bucket)
        bucket.append(tensor)
        open_buckets[tensor.dtype] = (bucket, size + tensor.nbytes)
    return buckets
