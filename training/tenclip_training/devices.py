"""Devices by their names on the command line."""

from __future__ import annotations

import functools
import logging

import torch

from tenclip_api.errors import InvalidRequest
from tenclip_serving.runtimes import cuda

_log = logging.getLogger(__name__)


def find_device(name: str, *, gpu: int = 0) -> torch.device:
    """The device that `name` stands for: cpu, cuda, cuda:1, ...; auto is GPU number `gpu` where there is one, else cpu,
    and the log says so once where this torch cannot use it.

    Raises InvalidRequest for a name that means nothing to torch, and for a GPU that this machine does not have.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", gpu)
        if (why := cuda.why_not_torch(torch)) is not None:
            _warn_once(why)
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InvalidRequest(f"device {name!r} is not one of cpu, cuda, cuda:1, ... or auto") from None
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise InvalidRequest(f"device {name}: this machine has {count or 'no'} GPU{'' if count == 1 else 's'}")
    return device


_warn_once = functools.cache(_log.warning)
