"""`tenclip batch features` against the way of scripts such as video_features, in each variant of the bundle.

The way of such scripts: OpenCV decodes a whole video, torch runs its windows one at a time. Both take the same weights,
windows and videos, on the same cores, in turns; ratios are medians of those of single rounds, and the features are
compared. The share of the machine's matrix rate is that of the network's multiply-adds in all of the time, decoding
included, against a float32 matrix product in the same round.

    python -m tests.benchmarks batch_speed
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tenclip_batch.options import ClipChoices, RuntimeOptions
from tenclip_batch.run import BatchJob, Watching, run_local
from tenclip_batch.videos import batch_videos
from tenclip_export.bundle_writer import export_bundle
from tenclip_export.calibration import calibration_clips
from tenclip_training.models import VideoModel, create_model
from tenclip_training.models.cost import count_macs
from tenclip_training.preprocess import normalise
from tenclip_video.parity import relative_l2
from tenclip_video.spec import ClipSpec, Resize
from tests.benchmarks.bench_runtimes import SGEMM, SGEMM_SIZE
from tests.conftest import DATA_DIR
from tests.tenclip_batch.helpers import rows
from tests.tenclip_serving.helpers import make_video

SCRIPT = "OpenCV and torch, one clip at a time"
FEWEST_VIDEOS = 8  # two clips of each calibrate int8, which needs 16
LOGITS_APART = 5.0  # of the clips beside the widest gap
Features = dict[str, NDArray[np.float32]]
Way = Callable[[], tuple[float, Features]]


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="r2plus1d_18")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--crop", type=int, default=112)
    parser.add_argument("--step", type=int, default=0, help="frames between windows; 0: no overlap")
    parser.add_argument("--videos", type=int, default=8, help="of the real clips, where they are")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", nargs="*", default=["bf16", "int8"])
    options = parser.parse_args(argv)
    console = Console(highlight=False)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        return bench(options, Path(name), console)


def bench(options: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    torch.manual_seed(0)
    side = round(options.crop * 128 / 112)
    spec = ClipSpec(
        num_frames=options.frames,
        crop=options.crop,
        fully_convolutional_crop=None,
        resize=Resize(height=side, width=round(side * 4 / 3), kernel="opencv_bilinear"),
    )
    videos = find_videos(folder / "videos", max(options.videos, FEWEST_VIDEOS))
    size = {"num_frames": options.frames, "crop": options.crop}
    model = create_model(options.architecture, num_classes=2, **size).eval()
    tell_apart(model, spec, videos)
    bundle = export_bundle(
        model, spec, folder / "models", name="bench", runtimes=["openvino"], measure=True,
        variants=options.variants, calibration=calibration_clips([videos], spec) if options.variants else None,
    )  # fmt: skip
    made = {v.name for v in bundle.info.variants}
    for refused in bundle.info.provenance.get("refused_variants", ()):
        console.print(f"left out: {refused}", markup=False, soft_wrap=True)
    step = options.step or options.frames
    ways: dict[str, Way] = {SCRIPT: lambda: timed(lambda: script(model, spec, videos, step))}
    for variant in sorted(made, key=lambda v: v != "fp32"):
        runtime = RuntimeOptions(runtime="openvino", variant=variant, threads=options.threads)  # type: ignore[arg-type]
        ways[f"batch, {variant}"] = batch_way(bundle.path, folder / variant, videos, step, runtime)
    return compare(ways, model, spec, options.rounds, console)


def compare(ways: dict[str, Way], model: VideoModel, spec: ClipSpec, rounds: int, console: Console) -> dict[str, Any]:
    flop = 2 * count_macs(model, num_frames=spec.num_frames, crop=spec.crop)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    sgemm = []
    features: dict[str, Features] = {}
    for _ in range(rounds):
        sgemm.append(2 * SGEMM_SIZE**3 / min(timed(call)[0] for call in SGEMM.values()))
        for way, work in ways.items():
            taken, features[way] = work()
            seconds[way].append(taken)
    lines = []
    reference = features[SCRIPT]
    for way, taken_each in seconds.items():
        taken_all = np.array(taken_each)
        clips = sum(len(f) for f in features[way].values())
        lines.append(
            {
                "way": way,
                "clips": clips,
                "clips_per_second": float(np.median(clips / taken_all)),
                "times_script": float(np.median(np.array(seconds[SCRIPT]) / taken_all))
                * clips
                / sum(len(f) for f in reference.values()),
                "share_of_sgemm": float(np.median(clips * flop / taken_all / np.array(sgemm))),
                "features_relative_l2": distance(features[way], reference),
            }
        )
    table = Table("way", "clips", "clips/s", "times the script", "share of sgemm", "features off by (relative L2)")
    for line in lines:
        numbers = (line["clips_per_second"], line["times_script"], line["share_of_sgemm"], line["features_relative_l2"])
        table.add_row(str(line["way"]), str(line["clips"]), *(f"{value:.3g}" for value in numbers))
    console.print(table)
    return {"rounds": rounds, "lines": lines}


def distance(ours: Features, theirs: Features) -> float:
    """Over the windows that both have: ours adds one that ends with the video."""
    pairs = [(ours[name][: len(rows_)], rows_[: len(ours[name])]) for name, rows_ in theirs.items()]
    return float(relative_l2(np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def tell_apart(model: VideoModel, spec: ClipSpec, videos: Path) -> None:
    """Give the last layer, of two classes, weights that tell the videos apart where their features differ most, at the
    widest gap: classes of random weights are nearly tied, and no variant could be held to keep those.
    """
    windows = [np.array_split(np.stack(list(decoded(path, spec))), 4) for path in sorted(videos.iterdir())]
    clips = torch.from_numpy(np.stack([part[: spec.num_frames] for parts in windows for part in parts]))
    with torch.inference_mode():
        vectors = torch.cat([model(normalise(clip[None], spec))[1] for clip in clips])
    centred = vectors - vectors.mean(0)
    direction = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    along = (vectors @ direction).sort().values
    widest = along.diff().argmax()
    threshold, scale = along[widest : widest + 2].mean(), LOGITS_APART / along.diff().max()
    (layer,) = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    with torch.no_grad():
        layer.weight.copy_(scale * torch.stack([direction, -direction]))
        layer.bias.copy_(scale * torch.stack([-threshold, threshold]))


# -- the two ways ------------------------------------------------------------------------------------------------------


def script(model: VideoModel, spec: ClipSpec, videos: Path, step: int) -> Features:
    """As such scripts do it: all frames of a video, then window after window."""
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (spec.mean, spec.std))
    found: Features = {}
    for path in sorted(videos.iterdir()):
        frames = torch.from_numpy(np.stack(list(decoded(path, spec))))  # (N,H,W,3)
        clips = (frames.permute(3, 0, 1, 2).float() / 255 - mean) / std  # (3,N,H,W)
        vectors = []
        with torch.inference_mode():
            for start in range(0, clips.shape[1] - spec.num_frames + 1, step):
                window = clips[:, start : start + spec.num_frames]
                vectors.append(model(window[None])[1][0].numpy())
        found[str(path)] = np.stack(vectors)
    return found


def decoded(path: Path, spec: ClipSpec) -> list[NDArray[np.uint8]]:
    """Every frame, resized and cropped, RGB."""
    capture = cv2.VideoCapture(str(path))
    height, width = spec.resize.height, spec.resize.width
    top, left = (height - spec.crop) // 2, (width - spec.crop) // 2
    frames = []
    while True:
        there, frame = capture.read()
        if not there:
            break
        frame = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), (width, height), interpolation=cv2.INTER_LINEAR)
        frames.append(np.asarray(frame[top : top + spec.crop, left : left + spec.crop], np.uint8))
    capture.release()
    return frames


def batch_way(bundle: Path, out: Path, videos: Path, step: int, runtime: RuntimeOptions) -> Way:
    """A whole run into an empty folder; its time begins when the model is loaded, as that of the script does."""

    def work() -> tuple[float, Features]:
        shutil.rmtree(out, ignore_errors=True)
        choices = ClipChoices(mode="windows", step=step)
        job = BatchJob(bundle=bundle, out=out, videos=batch_videos([str(videos)]), choices=choices, runtime=runtime)
        started: list[float] = []
        run_local(job, Watching(on_start=lambda total, before: started.append(time.perf_counter())))
        seconds = time.perf_counter() - started[0]
        table = rows(out)
        names = np.array(table["video"].to_pylist())
        matrix = np.stack(table["features"].to_numpy())
        return seconds, {name: matrix[names == name] for name in sorted(set(names))}

    return work


def find_videos(folder: Path, count: int) -> Path:
    """Real clips where there are some, else made ones."""
    folder.mkdir()
    real = sorted(p for p in (DATA_DIR / "clips").glob("*") if p.suffix in (".mp4", ".avi", ".webm", ".mkv"))
    for path in real[:count]:
        shutil.copy(path, folder)
    for i in range(len(real[:count]), count):
        make_video(folder / f"made{i}.mp4", num_frames=128, size=(340, 256))
    return folder
