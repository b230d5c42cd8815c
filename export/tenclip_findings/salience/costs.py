"""What predictions cost: multiply-adds counted on the graphs, and seconds measured end to end.

Operations leave out what is no convolution or matrix product, decoding above all: so seconds are measured beside them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tenclip_findings.salience.config import BASELINE, MOST_SALIENT
from tenclip_findings.salience.results import SecondsResult
from tenclip_findings.salience.scoring import classify, window_step
from tenclip_findings.salience.videos import TrueVideo
from tenclip_serving.runtimes import Runtime
from tenclip_video.clips import read_clips
from tenclip_video.protocols import Protocol
from tenclip_video.salience import ClipScorer, WindowScores
from tenclip_video.sampling import Clip, ClipSelection
from tenclip_video.spec import ClipSpec
from tenclip_video.video import Video

TIMED_CLIPS = (1, 3, MOST_SALIENT)


def graph_macs(path: Path) -> int:
    """Multiply-adds of an ONNX graph's convolutions and matrix products for one item of its first axis.

    Raises ValueError for a graph in which the shape of one of them is not known.
    """
    import onnx

    model = onnx.load(str(path))
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = 1
    del model.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {i.name: tuple(i.dims) for i in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    return sum(_node_macs(node, shapes, path) for node in graph.node)


def _node_macs(node: object, shapes: dict[str, tuple[int, ...]], path: Path) -> int:
    kind, inputs, outputs = node.op_type, list(node.input), list(node.output)  # type: ignore[attr-defined]
    if kind not in ("Conv", "Gemm", "MatMul"):
        return 0
    out, weights = shapes.get(outputs[0], ()), shapes.get(inputs[1], ())
    if not out or not weights or 0 in out or 0 in weights:
        raise ValueError(f"{path}: the shape of {kind} {node.name!r} is not known: {out}, {weights}")  # type: ignore[attr-defined]
    if kind == "Conv":
        return math.prod(out) * math.prod(weights[1:])  # [out, in / groups, kernel...]
    first = shapes.get(inputs[0], ())
    return math.prod(out) * (first[-1] if first and first[-1] else weights[-2])


class Timer:
    """Seconds of predictions of `videos`, one after the other, as a server makes them."""

    def __init__(self, videos: Sequence[TrueVideo], runtime: Runtime, spec: ClipSpec) -> None:
        self._videos, self._runtime, self._spec = videos, runtime, spec

    def measure(self, scorers: Mapping[str, ClipScorer]) -> list[SecondsResult]:
        """The baseline, all windows, and `TIMED_CLIPS` salient clips by each scorer."""
        uniform = ClipSelection(num_clips=BASELINE)
        windows = ClipSelection(mode="windows", window_step=window_step(self._spec))
        self._classified(self._videos[:1], "", uniform)  # compiles, and fills caches
        found = [
            self._classified(self._videos, f"uniform, {BASELINE}", uniform),
            self._classified(self._videos, "all windows", windows),
        ]
        for name, scorer in scorers.items():
            self._salient(self._videos[:1], "", scorer, 1)
            found += [self._salient(self._videos, f"salient ({name}), {n}", scorer, n) for n in TIMED_CLIPS]
        return found

    def _classified(self, videos: Sequence[TrueVideo], arm: str, selection: ClipSelection) -> SecondsResult:
        """Clips that no scorer chooses."""
        decoding = network = 0.0
        for video in videos:
            start = time.perf_counter()
            clips = read_clips(video.path, self._spec, Protocol(selection=selection)).clips
            read = time.perf_counter()
            classify(self._runtime, clips)
            decoding, network = decoding + read - start, network + time.perf_counter() - read
        count = len(videos)
        return SecondsResult(arm=arm, scoring=0.0, decoding=decoding / count, network=network / count, num_videos=count)

    def _salient(self, videos: Sequence[TrueVideo], arm: str, scorer: ClipScorer, num_clips: int) -> SecondsResult:
        """The `num_clips` windows that `scorer` ranks highest: the video is open once for both parts."""
        timed = _TimedScorer(scorer)
        selection = ClipSelection(mode="salient", num_clips=num_clips, window_step=window_step(self._spec))
        reading = network = 0.0
        for video in videos:
            start = time.perf_counter()
            clips = read_clips(video.path, self._spec, Protocol(selection=selection), scorer=timed).clips
            read = time.perf_counter()
            classify(self._runtime, clips)
            reading, network = reading + read - start, network + time.perf_counter() - read
        count = len(videos)
        return SecondsResult(
            arm=arm,
            scoring=timed.seconds / count,
            decoding=(reading - timed.seconds) / count,
            network=network / count,
            num_videos=count,
        )


class _TimedScorer:
    """A scorer that counts the seconds that it takes."""

    def __init__(self, scorer: ClipScorer) -> None:
        self._scorer, self.seconds = scorer, 0.0

    @property
    def name(self) -> str:
        return self._scorer.name

    @property
    def window_step(self) -> int | None:
        return self._scorer.window_step

    def check_clips(self, model_spec: ClipSpec) -> None:
        self._scorer.check_clips(model_spec)

    def score(self, video: Video, clips: Sequence[Clip]) -> WindowScores:
        start = time.perf_counter()
        scores = self._scorer.score(video, clips)
        self.seconds += time.perf_counter() - start
        return scores
