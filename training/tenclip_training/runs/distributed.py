"""Data-parallel training: one process for each device, started by torchrun.

    torchrun --nproc-per-node 8 --no-python tenclip train ...

Without torchrun's environment variables there is a world of one process, in which everything here does nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from tenclip_api.errors import TenclipError
from tenclip_training.devices import find_device

T = TypeVar("T")

# For one another: the first process may have teachers look at every video while the others wait. A process that has
# died is noticed at once all the same, by its connections and by torchrun.
LONGEST_WAIT = timedelta(days=7)

# What gloo and NCCL say when the process at the other end has died.
_LOST = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "broken pipe", "connection refused")


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

    def settle(self, network: nn.Module, take: Callable[[nn.Module], Tensor]) -> None:
        """Run `network` forth and back once, and leave no trace. take: gives a scalar on which all parameters act.

        torch puts gradients together anew after its first pass back, and sums of three numbers or more hang on how they
        lie: a run that goes on would otherwise round its first step as no run does that has never stopped.
        """
        if self.size < 3:
            return
        before = [buffer.clone() for buffer in network.buffers()]
        with torch.random.fork_rng():
            take(network).backward()  # type: ignore[no-untyped-call]
        network.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, value in zip(network.buffers(), before, strict=True):
                buffer.copy_(value)

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

    def sums(self, *values: float) -> list[float]:
        """The sum of each value over all processes. Over gloo, so a GPU that computes meanwhile is not waited for."""
        if self.size == 1:
            return list(values)
        return [float(v) for v in self.sum(torch.tensor(values, dtype=torch.float64))]

    def share_buffers(self, model: nn.Module) -> None:
        """Give every process the first one's running statistics, so that all score with the same network."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def gather(self, values: Sequence[T]) -> list[T]:
        """The values of all processes, in the order of their ranks."""
        if self.size == 1:
            return list(values)
        parts: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, list(values))
        return [value for part in parts for value in part]

    def wait(self) -> None:
        """Wait until every process has come to this point."""
        if self.size > 1:
            dist.barrier()

    @contextlib.contextmanager
    def explain_lost_processes(self, run: object) -> Iterator[None]:
        """Turns torch's error over a process that has died into a TenclipError, which says how to go on."""
        try:
            yield
        except (RuntimeError, ConnectionError, EOFError) as err:
            if "DataLoader worker" in str(err) or _is_of_a_pipe(err):
                raise TenclipError(
                    f"{run}: a process that reads clips has died, most likely for want of memory. Go on with --resume "
                    f"{run} and fewer --workers, or a smaller --cache ({err})"
                ) from err
            of_torch = isinstance(err, RuntimeError)
            if self.size == 1 or not of_torch or not any(sign in str(err).lower() for sign in _LOST):
                raise
            raise TenclipError(
                f"{run}: another of the {self.size} processes has ended, so process {self.rank} cannot go on; its own "
                f"error is above or below, unless it was killed. Go on with the same command and --resume {run}"
            ) from err


def _is_of_a_pipe(err: Exception) -> bool:
    """A reader that dies while it hands a clip over ends the connection before torch has seen its end.

    Told by where it was raised: shards by URL lose connections, too.
    """
    trace = err.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else trace.tb_frame.f_globals.get("__name__", "")
    return isinstance(err, (ConnectionError, EOFError)) and module == "multiprocessing.connection"


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
        # What is on the CPU goes over gloo in any case: counts and wishes to stop, at every step.
        backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
        store, rank, size = next(rendezvous("env://"))
        store = PrefixStore(meet(PrefixStore("tenclip", store), rank, size), store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=LONGEST_WAIT)
        atexit.register(dist.destroy_process_group)
    return World(rank=dist.get_rank(), size=dist.get_world_size(), local_rank=local_rank)


def meet(store: Store, rank: int, size: int, *, seconds: float = 600.0) -> str:
    """A name for the group of the processes that are there now, the same in each of them and never used before.

    torchrun keeps its store when it restarts processes, with the addresses of those that have died (torch 2.13; its
    processes take the store for a new one). Some then try to reach the dead, and hang. So the first process gives the
    group a name, and answers each other process for as long as it has not agreed: what it finds in the store may be an
    old process's, but an answer holds what was asked. Raises TenclipError when they have not met in `seconds`.
    """
    mine = secrets.token_hex(8)
    deadline = time.monotonic() + seconds
    waiting = set(range(1, size)) if rank == 0 else {rank}
    if rank:
        store.set(f"question/{rank}", mine)
    while waiting:
        if rank == 0:
            waiting -= {other for other in waiting if store.check([f"agreed/{mine}/{other}"])}
            for other in waiting:
                if store.check([f"question/{other}"]):
                    store.set(f"answer/{other}", store.get(f"question/{other}").decode() + f" {mine}")
        elif store.check([f"answer/{rank}"]):
            answer: str = store.get(f"answer/{rank}").decode()
            asked, _, group = answer.partition(" ")
            if asked == mine:
                store.set(f"agreed/{group}/{rank}", "")
                return group
        if time.monotonic() > deadline:
            others = ", ".join(map(str, sorted(waiting))) if rank == 0 else "0"
            raise TenclipError(f"process {rank} of {size} has waited {seconds:g} s for processes {others}")
        time.sleep(0.01)
    return mine


def was_restarted() -> bool:
    """Whether torchrun started this process again, after one of the run had failed (--max-restarts)."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0) > 0
