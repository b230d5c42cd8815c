"""Ten clips of R(2+1)D-18 (16x112x112) a request: `tenclip serve` against a real TorchServe, and inference alone.

All of it on this machine, with the same weights, file and number of threads, over gRPC, in turns; ratios are medians of
those of single rounds. TorchServe runs (a) a plain handler: PyAV and torch eager (`torchserve_eager.py`), and (b) the
archive that `tenclip export --target torchserve` writes. Inference alone is `Runtime.run` on the clips of the file.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from tenclip_client import Client
from tenclip_export.bundle_writer import export_bundle
from tenclip_export.torchserve.archive import TorchServeSettings, export_torchserve
from tenclip_serving.models.repository import load_repository
from tenclip_training.models import create_model
from tenclip_video.bundle import Bundle
from tenclip_video.clips import read_clips
from tenclip_video.spec import ClipSpec
from tests.conftest import DATA_DIR
from tests.tenclip_export.torchserve import absent, running_torchserve
from tests.tenclip_serving.helpers import make_video, running_server

FRAMES, CROP, CLIPS = 16, 112, 10
NAME = "kinetics"
OURS, EAGER, ARCHIVE, ALONE = "tenclip serve", "TorchServe, plain handler", "TorchServe, our archive", "inference alone"
HANDLER = Path(__file__).with_name("torchserve_eager.py")
_TIMEOUT = 600.0
Ask = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Line:
    """times_eager: requests a second against TorchServe with the plain handler. times_alone: seconds of a request
    against those of inference alone on its clips, 1.05 being an overhead of 5%."""

    way: str
    clients: int
    seconds: float
    times_eager: float
    times_alone: float


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args(argv)
    console = Console(highlight=False)
    if why := absent():
        console.print(f"left out: {why}", markup=False)
        return {"left_out": why}
    lines: list[Line] = []
    beyond = float("nan")
    with ExitStack() as stack:
        ways, stages = _ways(stack, options.threads)
        for ask in ways.values():  # warm up
            ask()
        stages.clear()
        for clients in options.clients:
            lines += measure(ways, clients, options.rounds)
            if clients == 1:
                beyond = _beyond_inference(stages)
                console.print(f"a request of one client spends {beyond:.1%} of its inference on all else", markup=False)
    console.print(_table(lines))
    found = {name: round(float(np.median(seconds)), 4) for name, seconds in stages.items()}
    console.print(f"stages of {OURS}, median seconds of a request: {found}", markup=False)
    return {
        "threads": options.threads,
        "lines": [asdict(line) for line in lines],
        "beyond_inference": beyond,
        "stage_seconds": found,
    }


def _beyond_inference(stages: dict[str, list[float]]) -> float:
    """What a request takes, as its client sees it, beyond the inference that it is about; the median of all.

    Unlike the comparison with inference alone, both are of one moment: noise of a shared machine is in neither.
    """
    whole, infer = np.array(stages["whole"]), np.array(stages["infer"])
    return float(np.median((whole - infer) / infer))


def measure(ways: dict[str, Ask], clients: int, rounds: int) -> list[Line]:
    """Seconds a request takes of the machine: `clients` requests at once, in so many rounds."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with ThreadPoolExecutor(clients) as pool:
        for _ in range(rounds):
            for way, ask in ways.items():
                at_once = 1 if way == ALONE else clients
                started = time.perf_counter()
                for future in [pool.submit(ask) for _ in range(at_once)]:
                    future.result()
                seconds[way].append((time.perf_counter() - started) / at_once)
    taken = {way: np.array(values) for way, values in seconds.items()}
    return [
        Line(
            way=way,
            clients=clients,
            seconds=float(np.median(values)),
            times_eager=float(np.median(taken[EAGER] / values)),
            times_alone=float(np.median(values / taken[ALONE])),
        )
        for way, values in taken.items()
    ]


def _ways(stack: ExitStack, threads: int) -> tuple[dict[str, Ask], dict[str, list[float]]]:
    """One request by each way, answered; and where the seconds of our server's stages are kept."""
    root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    video = _video(root)
    torch.manual_seed(0)
    model = create_model("r2plus1d_18", num_classes=400, num_frames=FRAMES, crop=CROP).eval()
    spec = ClipSpec(num_frames=FRAMES, crop=CROP, fully_convolutional_crop=None)
    bundle = export_bundle(model, spec, root / "models", name=NAME, runtimes=["openvino"])
    store = root / "store"
    export_torchserve(bundle, store, settings=TorchServeSettings(threads=threads))
    write_eager_archive(store / "eager.mar", model, threads)
    torchserve = stack.enter_context(running_torchserve(store))
    torchserve.register(store / "eager.mar")
    torchserve.register(next(store.glob(f"{NAME}-*.mar")))
    server = stack.enter_context(running_server(root / "models", "--threads", str(threads)))
    client = stack.enter_context(Client(server.address, timeout=_TIMEOUT))
    stages: dict[str, list[float]] = {}

    def ours() -> None:
        started = time.perf_counter()
        timings = dict(client.predict(video).provenance.timings)
        for stage, seconds in (timings | {"whole": time.perf_counter() - started}).items():
            stages.setdefault(stage, []).append(seconds)

    def at_torchserve(name: str) -> Ask:
        def ask() -> None:
            assert json.loads(torchserve.predict(name, {"data": video}, timeout=_TIMEOUT))

        return ask

    ways = {OURS: ours, EAGER: at_torchserve("eager"), ARCHIVE: at_torchserve(NAME)}
    return {**ways, ALONE: _alone(bundle, spec, video, threads)}, stages


def _alone(bundle: Bundle, spec: ClipSpec, video: bytes, threads: int) -> Ask:
    """The runtime that a server would pick, on the clips of the same video."""
    model = load_repository(bundle.path.parents[1], threads=threads).get(NAME, "")
    clips = read_clips(io.BytesIO(video), spec).clips
    assert len(clips) == CLIPS
    size = model.runtime.batch_size

    def run() -> None:
        for first in range(0, len(clips), size):
            model.runtime.run(clips[first : first + size])

    return run


def write_eager_archive(path: Path, model: torch.nn.Module, threads: int) -> None:
    weights = io.BytesIO()
    torch.save(model.state_dict(), weights)
    manifest = {
        "createdOn": "",
        "runtime": "python",
        "model": {
            "modelName": "eager",
            "handler": HANDLER.name,
            "modelVersion": "1.0",
            "configFile": "model-config.yaml",
        },
        "archiverVersion": "0.12.0",
    }
    config = f"minWorkers: 1\nmaxWorkers: 1\nresponseTimeout: {_TIMEOUT:.0f}\nthreads: {threads}\n"
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("model-config.yaml", config)
        archive.writestr(HANDLER.name, HANDLER.read_text(encoding="utf-8"))
        archive.writestr("weights.pt", weights.getvalue())


def _video(root: Path) -> bytes:
    """A real clip where there is one."""
    real = DATA_DIR / "clips" / "archery.avi"
    path = real if real.exists() else make_video(root / "video.mp4", num_frames=200, size=(320, 240))
    return path.read_bytes()


def _table(lines: list[Line]) -> Table:
    table = Table("", "clients", "seconds a request", f"x {EAGER}", "x inference alone", title_justify="left")
    for line in lines:
        table.add_row(
            line.way, str(line.clients), f"{line.seconds:.2f}", f"{line.times_eager:.2f}", f"{line.times_alone:.3f}"
        )
    return table
