"""Data-parallel training: one process for each device, started by torchrun.

    torchrun --nproc-per-node 8 --no-python tenclip train ...

Without torchrun's environment variables there is a world of one process, in which everything here does nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import warnings
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tenclip_training.devices import find_device

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class World:
    """The group of processes that train together, as one of them sees it.

    rank: this process's number, from 0; size: how many there are; local_rank: its number on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and reports progress."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """The device of that name; for `auto` this process's own GPU where there is one, else the CPU."""
        return find_device(name, gpu=self.local_rank)

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The module to train: gradients are averaged over all processes."""
        if self.size == 1:
            return model
        # 1x1 kernels in channels-last memory have strides that differ in name only.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)

    def unsynchronised(self, network: nn.Module) -> contextlib.AbstractContextManager[None]:
        """In it, gradients of `network` stay this process's own, until the first backward pass outside of it."""
        if isinstance(network, DistributedDataParallel):
            return network.no_sync()
        return contextlib.nullcontext()

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def all_true(self, value: bool, device: torch.device) -> bool:
        """Whether it is true in every process."""
        if self.size == 1:
            return value
        flag = torch.tensor(int(value), device=device)
        dist.all_reduce(flag, dist.ReduceOp.MIN)
        return bool(flag)

    def share_buffers(self, model: nn.Module) -> None:
        """Give every process the first one's running statistics, so that all score with the same network."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def gather(self, values: list[T]) -> list[T]:
        """The values of all processes, in the order of their ranks."""
        if self.size == 1:
            return values
        parts: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, values)
        return [value for part in parts for value in part]

    def wait(self) -> None:
        """Wait until every process has come to this point."""
        if self.size > 1:
            dist.barrier()


def join_world(device: str) -> World:
    """Join the process group when torchrun started this process; else a world of one.

    They stay together until they end: a group that was left cannot be entered anew (it would find the addresses of the
    old one), and a process may train more than once.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return World()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_gpu:
        torch.cuda.set_device(local_rank)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if on_gpu else "gloo")
        atexit.register(dist.destroy_process_group)
    return World(rank=dist.get_rank(), size=dist.get_world_size(), local_rank=local_rank)
