"""Decoding by the GPU's own decoder, through the FFmpeg that PyAV brings: how fast, and how far from the CPU's pixels.

Of the three ways, torchcodec needs FFmpeg's libraries on the machine, PyNvVideoCodec (27 MB) does not fit beside PyAV
into what is carried, and PyAV's own wheel has NVDEC in it. The CPU stays the default whatever is found here: the server
promises the same pixels on every machine.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from tests.gpu_check.context import Context

FRAMES = 200


def run(context: Context) -> dict[str, Any]:
    video = min(context.wait_for("videos").glob("*.mp4"))
    found: dict[str, Any] = {"pyav": av.__version__, "decoders": sorted(c for c in av.codecs_available if "cuvid" in c)}
    cpu, seconds = decode(video, None)
    found["cpu_frames_per_second"] = len(cpu) / seconds
    context.report(found)
    try:
        gpu, seconds = decode(video, "cuda")
    except (av.FFmpegError, RuntimeError, ValueError, NotImplementedError, OSError) as err:
        return found | {"available": False, "why": f"{type(err).__name__}: {err}"}
    apart = np.abs(gpu.astype(np.int16) - cpu[: len(gpu)].astype(np.int16))
    return found | {
        "available": True,
        "gpu_frames_per_second": len(gpu) / seconds,
        "equal_frames": float(np.mean(apart.reshape(len(apart), -1).max(1) == 0)),
        "largest_difference": int(apart.max()),
        "mean_difference": float(apart.mean()),
    }


def decode(video: Path, device: str | None) -> tuple[NDArray[np.uint8], float]:
    """Luma and chroma of the first frames as YUV 4:2:0 planes, and the seconds it took. Raises what PyAV raises."""
    from av.codec.hwaccel import HWAccel

    accelerated = None if device is None else HWAccel(device_type=device, allow_software_fallback=False)
    planes: list[NDArray[np.uint8]] = []
    start = time.perf_counter()
    with av.open(str(video), hwaccel=accelerated) as container:
        for frame in container.decode(video=0):
            planes.append(np.asarray(frame.reformat(format="yuv420p").to_ndarray(), np.uint8))
            if len(planes) == FRAMES:
                break
    return np.stack(planes), time.perf_counter() - start
