"""What scoring the windows of a video costs, beside decoding it and beside the heavy network that it spares.

Real clips, looped to ten seconds, a minute and ten minutes, in CPU seconds of this process, so that other load matters
little. Samplers have random weights, which changes no speed; they are the networks that `tenclip train-sampler` fits,
exported as it exports them. Windows are half a clip apart. The heavy network is R(2+1)D-34 on clips of 32x128x128; a
dense prediction runs it on every window without overlap, a ten-clip prediction on ten. What all of them need, opening
and indexing the file, is left out.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from tenclip_export.onnx_graph import export_onnx
from tenclip_serving.runtimes import create_runtime
from tenclip_training.models import create_model
from tenclip_training.sampler.export import export_sampler
from tenclip_training.sampler.networks import Salience, SamplerNet
from tenclip_video.salience import MotionEnergyScorer, Sampler, SamplerKind, default_spec, iter_windows, load_sampler
from tenclip_video.sampling import Clip, ClipSelection, plan_clips
from tenclip_video.spec import ClipSpec
from tenclip_video.video import Video, open_video
from tests.conftest import DATA_DIR, PROJECT

SPEC = ClipSpec(num_frames=32, crop=128, fully_convolutional_crop=None)
KINDS: tuple[SamplerKind, ...] = ("compressed", "rgb", "keyframes", "audio")
# H.264 without and with sound, MPEG-4.
CLIPS = ("arm_wrestling.mp4", "flipping_pancake.mkv", "archery.avi")
SECONDS = (10, 60, 600)
MOST_OF_DENSE, MOST_OF_KEYFRAMES = 1 / 20, 2.0
SPARED = 10  # clips of a ten-clip prediction

# Prints the peak of resident memory of scoring one video, in MiB above that of scoring a short one.
MEASURE = """
import sys
from pathlib import Path
from tenclip_video.salience import MotionEnergyScorer, LearnedScorer, load_sampler
from tests.benchmarks.bench_salience import windows_of
from tenclip_video.video import open_video
from tenclip_video.salience.inputs import iter_windows

def peak():
    (line,) = (l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM"))
    return int(line.split()[1]) / 1024

def score(path):
    with open_video(path) as video:
        clips = windows_of(video)
        if sys.argv[3] == "motion-energy":
            MotionEnergyScorer().score(video, clips)
            return
        sampler = load_sampler(sys.argv[3])
        for group in iter_windows(video, clips, sampler.spec):
            if group.inputs is not None:
                sampler.scores(group.inputs)

score(sys.argv[1])
before = peak()
score(sys.argv[2])
print(peak() - before)
"""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One scorer on one video, in CPU seconds.

    decode: of all frames. keyframe_decode: of its key frames. read: the inputs of all windows. network: the sampler on
    them. of_dense, of_ten: their sum as a share of the heavy network on all windows, and on ten.
    """

    video: str
    seconds: float
    windows: int
    scorer: str
    decode: float
    keyframe_decode: float
    read: float
    network: float
    of_dense: float
    of_ten: float

    @property
    def total(self) -> float:
        return self.read + self.network


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=int, nargs="*", default=list(SECONDS), help="lengths that clips are looped to"
    )
    parser.add_argument("--clips", nargs="*", default=list(CLIPS))
    parser.add_argument("--repetitions", type=int, default=3, help="of videos up to a minute; the shortest counts")
    options = parser.parse_args(argv)
    print(f"load of the machine: {' '.join(f'{load:.1f}' for load in os.getloadavg())}", flush=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        heavy, wall = heavy_clip(folder)
        print(f"R(2+1)D-34, one clip of 32x128x128, OpenVINO: {heavy:.2f} s of CPU, {wall:.2f} s", flush=True)
        samplers = {kind: make_sampler(kind, folder / f"{kind}.onnx") for kind in KINDS}
        lines: list[Line] = []
        for name in options.clips:
            for seconds in options.seconds:
                path = loop(DATA_DIR / "clips" / name, seconds, folder / f"{Path(name).stem}-{seconds}.mkv")
                found = bench(path, samplers, heavy, options.repetitions if seconds <= 60 else 1)
                show(found, header=not lines)
                lines += found
        memory = peaks(folder, options.clips[0], samplers) if {60, 600} <= set(options.seconds) else {}
    for scorer, (short, long) in memory.items():
        print(f"memory of {scorer}: {short:.0f} MiB for a minute, {long:.0f} MiB for ten", flush=True)
    verdicts = {
        "scoring_of_dense": max(line.of_dense for line in lines),
        "keyframe_scorer_of_keyframe_decode": max(
            line.read / line.keyframe_decode for line in lines if line.scorer == "keyframes"
        ),
    }
    print(
        f"largest share of a dense prediction: 1/{1 / verdicts['scoring_of_dense']:.0f} (at most 1/20); "
        f"key frames read / decoded: {verdicts['keyframe_scorer_of_keyframe_decode']:.2f} (at most 2)"
    )
    return {
        "heavy_clip_cpu_seconds": heavy,
        "heavy_clip_seconds": wall,
        "lines": [asdict(line) for line in lines],
        "memory_mib": memory,
        **verdicts,
    }


def heavy_clip(folder: Path) -> tuple[float, float]:
    """(CPU seconds, seconds) of one clip: the median of three."""
    model = create_model("r2plus1d_34", num_classes=400, num_frames=32, crop=128).eval()
    graph = folder / "heavy.onnx"
    export_onnx(model, SPEC, graph)
    runtime = create_runtime("openvino", graph, threads=2)
    clip = np.random.default_rng(0).integers(0, 256, (1, 32, 128, 128, 3), dtype=np.uint8)
    taken = []
    for _ in range(4):
        cpu, wall = time.process_time(), time.perf_counter()
        runtime.run(clip)
        taken.append((time.process_time() - cpu, time.perf_counter() - wall))
    return sorted(t for t, _ in taken[1:])[1], sorted(t for _, t in taken[1:])[1]


def make_sampler(kind: SamplerKind, path: Path) -> Sampler:
    spec = default_spec(kind, SPEC)
    torch.manual_seed(0)
    mean, std = np.zeros(spec.channels, np.float32), np.ones(spec.channels, np.float32)
    export_sampler(Salience(SamplerNet(spec, 400, mean, std), "ac"), spec, path)
    return load_sampler(path)


def loop(source: Path, seconds: float, path: Path) -> Path:
    """The packets of a clip, pictures and sound, one time after the other for so long."""
    with av.open(str(source)) as container, av.open(str(path), "w", format="matroska") as out:
        inputs = [*container.streams.video[:1], *container.streams.audio[:1]]
        outputs = {s.index: out.add_stream_from_template(s) for s in inputs}
        packets = [
            (p.stream, bytes(p), p.pts, p.dts, p.duration or 0, p.is_keyframe)
            for p in container.demux(inputs)
            if p.size
        ]
        # Some streams go on after the others; none begins before the end of what it had before.
        ends = [((dts or 0) + duration) * (s.time_base or Fraction(0)) for s, _, _, dts, duration, _ in packets]
        starts = [(dts or 0) * (s.time_base or Fraction(0)) for s, _, _, dts, _, _ in packets]
        length = max(ends) - min(starts)  # frames that are reordered have times of decoding below zero
        for turn in range(math.ceil(seconds / length)):
            for stream, payload, pts, dts, duration, is_keyframe in packets:
                base = stream.time_base or Fraction(1, 1000)
                shift = round(turn * length / base)
                if (dts or 0) * base + turn * length >= seconds:
                    continue
                packet = av.Packet(payload)
                packet.stream, packet.time_base = outputs[stream.index], base
                packet.pts = None if pts is None else pts + shift
                packet.dts = None if dts is None else dts + shift
                packet.duration, packet.is_keyframe = duration, is_keyframe
                out.mux(packet)
    return path


def windows_of(video: Video) -> list[Clip]:
    selection = ClipSelection(mode="salient", window_step=SPEC.span // 2)
    return plan_clips(video.times, video.info.duration_seconds, SPEC, selection)


def bench(path: Path, samplers: dict[SamplerKind, Sampler], heavy: float, repetitions: int) -> list[Line]:
    with open_video(path) as video:
        clips = windows_of(video)
        dense = -(-video.info.num_frames // SPEC.span) * heavy
        decode = shortest(lambda: decode_all(path), repetitions)
        keyframe_decode = shortest(lambda: decode_all(path, keyframes=True), repetitions)
        times = {"motion-energy": (shortest(lambda: MotionEnergyScorer().score(video, clips), repetitions), 0.0)}
        for kind, sampler in samplers.items():
            if kind != "audio" or video.info.has_audio:
                times[kind] = score(video, clips, sampler, repetitions)
        return [
            Line(
                video=path.stem.rpartition("-")[0],
                seconds=video.info.duration_seconds,
                windows=len(clips),
                scorer=scorer,
                decode=decode,
                keyframe_decode=keyframe_decode,
                read=read,
                network=network,
                of_dense=(read + network) / dense,
                of_ten=(read + network) / (min(SPARED, len(clips)) * heavy),
            )
            for scorer, (read, network) in times.items()
        ]


def decode_all(path: Path, *, keyframes: bool = False) -> None:
    """FFmpeg alone, in one thread."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "NONE", 1
        if keyframes:
            stream.codec_context.skip_frame = "NONKEY"
        for _ in container.decode(stream):
            pass


def score(video: Video, clips: list[Clip], sampler: Sampler, repetitions: int) -> tuple[float, float]:
    """(CPU seconds of the inputs, of the network) of all windows."""
    reads, networks = [], []
    for _ in range(repetitions):
        network = 0.0
        started = time.process_time()
        for group in iter_windows(video, clips, sampler.spec):
            assert group.inputs is not None
            at = time.process_time()
            sampler.scores(group.inputs)
            network += time.process_time() - at
        reads.append(time.process_time() - started - network)
        networks.append(network)
    return min(reads), min(networks)


def shortest(work: Callable[[], object], repetitions: int) -> float:
    taken = []
    for _ in range(repetitions):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken)


def peaks(folder: Path, clip: str, samplers: dict[SamplerKind, Sampler]) -> dict[str, tuple[float, float]]:
    """MiB of scoring a minute and ten minutes, beyond what ten seconds took."""
    stem = Path(clip).stem
    found = {}
    for scorer in ("motion-energy", *(s.file for kind, s in samplers.items() if kind != "audio")):
        measured = [peak(folder / f"{stem}-10.mkv", folder / f"{stem}-{seconds}.mkv", scorer) for seconds in (60, 600)]
        found[Path(scorer).stem] = (measured[0], measured[1])
    return found


def peak(first: Path, path: Path, scorer: str) -> float:
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(first), str(path), scorer],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(run.stdout)


def show(lines: list[Line], *, header: bool) -> None:
    if header:
        print(
            f"{'video':18}{'seconds':>8}{'windows':>9}  {'scorer':14}{'read s':>8}{'network s':>10}{'/ decode':>10}"
            f"{'/ key frames':>14}{'/ dense':>10}{'/ ten':>8}",
            flush=True,
        )
    for line in lines:
        print(
            f"{line.video:18}{line.seconds:8.1f}{line.windows:9d}  {line.scorer:14}{line.read:8.3f}{line.network:10.3f}"
            f"{line.total / line.decode:10.2f}{line.read / line.keyframe_decode:14.2f}"
            f"{f'1/{1 / line.of_dense:.0f}':>10}{line.of_ten:8.3f}",
            flush=True,
        )
