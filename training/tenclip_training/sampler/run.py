"""From videos and a heavy network to a sampler in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError, InvalidRequest
from tenclip_data.atomic import write_text
from tenclip_training.omni.score_store import Decoding
from tenclip_training.sampler.export import export_sampler
from tenclip_training.sampler.fit import Epoch, FitConfig, FitVideo, fit, salience_of
from tenclip_training.sampler.held_out import HeldOutVideo, clips_by_salience, held_out_metrics
from tenclip_training.sampler.inputs import Inputs, InputStore
from tenclip_training.sampler.motion import MotionStore
from tenclip_training.sampler.results import SamplerResult, sampler_file
from tenclip_training.sampler.teacher import TeacherStore, TeacherWindows, WindowTeacher
from tenclip_training.sampler.temperature import fit_temperature
from tenclip_training.sampler.videos import SamplerVideo, SamplerVideos
from tenclip_training.sampler.windows import PROTOCOL, WindowGrid
from tenclip_video.bundle import ScoreCalibration
from tenclip_video.salience import (
    DEFAULT_ERROR_BOUND,
    ERROR_BOUNDS,
    SamplerKind,
    SamplerSpec,
    StoppingRule,
    calibrate_stopping,
    default_spec,
)
from tenclip_video.salience.stopping import all_rules

# (what is done, how much of it, of how much)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """kind: what the sampler looks at. name: what answers call it; "" for its kind.

    window_step: frames from one candidate window to the next; None for half a clip. max_windows: candidates of one
    video in training, at most. max_clips: K, the clips that are taken. error_bounds: of the stopping rules, one for
    each, of which the first is taken where a request names none; confidence: of each.
    """

    kind: SamplerKind = "compressed"
    name: str = ""
    fit: FitConfig = field(default_factory=FitConfig)
    window_step: int | None = None
    max_windows: int = 128
    max_clips: int = 10
    error_bounds: tuple[float, ...] = (DEFAULT_ERROR_BOUND, *(b for b in ERROR_BOUNDS if b != DEFAULT_ERROR_BOUND))
    confidence: float = 0.95

    def spec(self, teacher: WindowTeacher) -> SamplerSpec:
        """The sampler, described."""
        return default_spec(
            self.kind,
            teacher.spec,
            self.window_step,
            name=self.name or self.kind,
            loss=self.fit.loss,
            teacher=teacher.name,
        )

    @property
    def counts(self) -> tuple[int, ...]:
        """The numbers of clips that are looked at on held-out videos."""
        return tuple(sorted({1, 3, self.max_clips}))


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of a run. path: the sampler. videos: how many were used, by part. failures: of those that were not.

    notes: fallbacks of the sampler's reader, with the numbers of videos.
    labelled: whether the manifest says what videos show; else the heavy network did.
    """

    path: Path
    spec: SamplerSpec
    result: SamplerResult
    videos: Mapping[str, int]
    failures: tuple[Mapping[str, str], ...]
    notes: Mapping[str, int]
    unpaired: int
    best_epoch: int
    history: tuple[Epoch, ...]
    parity: float
    labelled: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "sampler": str(self.path),
            "spec": asdict(self.spec),
            "metrics": dict(self.spec.metrics),
            "videos": dict(self.videos),
            "failures": [dict(f) for f in self.failures],
            "notes": dict(self.notes),
            "videos_without_pairs": self.unpaired,
            "best_epoch": self.best_epoch,
            "history": [asdict(e) for e in self.history],
            "onnx_relative_l2": self.parity,
            "labelled": self.labelled,
            **{k: v for k, v in asdict(self.result).items() if k not in ("file", "schema_version")},
        }


def train_sampler(
    videos: SamplerVideos,
    teacher: WindowTeacher,
    out: Path,
    config: SamplerConfig,
    *,
    cache: Path | None = None,
    decoding: Decoding | None = None,
    progress: Progress = lambda *_: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Report:
    """Train a sampler on what `teacher` says of `videos`, and write it to folder `out`.

    cache: where scores and inputs are kept, for this run and others; None for `out`. A run that was stopped goes on
    where it was.
    Raises DatasetError where nothing can be learned from, ModelError for a teacher that fails, TrainingDiverged.
    """
    spec = config.spec(teacher)
    out.mkdir(parents=True, exist_ok=True)
    grid = WindowGrid(step=spec.window_step, max_windows=config.max_windows)
    folder, how = cache or out, decoding or Decoding()
    known, failures, notes = _known_videos(videos, teacher, spec, grid, folder, how, progress)
    write_text(out / "failures.jsonl", "".join(json.dumps(f, ensure_ascii=False) + "\n" for f in failures))
    parts = {
        name: [known[v] for v in part if v in known]
        for name, part in (("train", videos.train), ("select", videos.select), ("held_out", videos.held_out))
    }
    if not parts["train"]:
        first = f"; the first: {failures[0]['message']}" if failures else ""
        raise DatasetError(f"none of {len(videos.train)} training videos can be used{first}")
    fitted = fit(
        spec,
        [k.to_fit() for k in parts["train"]],
        [k.to_fit() for k in parts["select"]],
        config.fit,
        num_classes=len(teacher.labels),
        on_epoch=on_epoch,
    )
    motion = _motion_energy([k.video for k in parts["held_out"]], teacher, grid, folder, how, progress)
    held_out = [k.held_out(salience_of(fitted.salience, k.inputs), motion.get(k.video.name)) for k in parts["held_out"]]
    spec = replace(spec, metrics=held_out_metrics(held_out, config.counts))
    labelled = all(v.label is not None for v in videos.all)
    path = out / sampler_file(spec.kind)
    parity = export_sampler(fitted.salience, spec, path)
    result = SamplerResult(
        file=path.name,
        teacher=teacher.name,
        teacher_identity=teacher.identity,
        **_stopping(held_out, config),
        **_calibration(held_out, config, teacher, labelled=labelled),
    )
    report = Report(
        path=path,
        spec=spec,
        result=result,
        videos={name: len(part) for name, part in parts.items()},
        failures=tuple(failures),
        notes=notes,
        unpaired=fitted.unpaired,
        best_epoch=fitted.best_epoch,
        history=fitted.history,
        parity=parity,
        labelled=labelled,
    )
    write_text(out / "history.jsonl", "".join(json.dumps(asdict(e)) + "\n" for e in fitted.history))
    write_text(out / "metrics.json", json.dumps(report.to_dict(), indent=2) + "\n")
    result.write(out)
    return report


@dataclass(frozen=True, eq=False)
class _Known:
    """A video with all that is known of it."""

    video: SamplerVideo
    label: int
    inputs: Inputs
    windows: TeacherWindows

    def to_fit(self) -> FitVideo:
        return FitVideo(self.video.name, self.inputs, self.windows.scores[:, self.label], self.label)

    def held_out(self, salience: NDArray[np.float32], motion: NDArray[np.float32] | None) -> HeldOutVideo:
        return HeldOutVideo(
            name=self.video.name,
            label=self.label,
            seconds=self.windows.seconds,
            teacher=self.windows.scores,
            salience=salience,
            motion_energy=motion if motion is not None and len(motion) == len(salience) else None,
            action=self.video.action,
        )


def _known_videos(
    videos: SamplerVideos,
    teacher: WindowTeacher,
    spec: SamplerSpec,
    grid: WindowGrid,
    cache: Path,
    decoding: Decoding,
    progress: Progress,
) -> tuple[dict[SamplerVideo, _Known], list[dict[str, str]], Mapping[str, int]]:
    """(what is known of each video, failures, notes) after both have seen all of them."""
    files = [v.video for v in videos.all]
    scores = TeacherStore(cache, teacher, grid)
    scores.update(files, decoding, lambda done, total: progress("teacher", done, total))
    inputs = InputStore(cache, spec, teacher.spec, grid)
    inputs.update(files, decoding, lambda done, total: progress("inputs", done, total))
    windows, failed = scores.read(files)
    seen, more = inputs.read(files)
    reasons = {f.video: (f.reason, f.message) for f in (*failed, *more)}
    known: dict[SamplerVideo, _Known] = {}
    failures: list[dict[str, str]] = []
    for part, members in (("train", videos.train), ("val", (*videos.select, *videos.held_out))):
        for video in members:
            reason = reasons.get(video.name)
            if reason is None and len(windows[video.name].scores) != len(seen[video.name]):
                reason = "CHANGED", "it has changed since a part of it was computed; remove the cached files"
            if reason is not None:
                failures.append({"video": video.name, "reason": reason[0], "message": reason[1], "split": part})
                continue
            found = windows[video.name]
            label = int(found.scores.mean(axis=0).argmax()) if video.label is None else video.label
            known[video] = _Known(video, label, seen[video.name], found)
    return known, failures, inputs.notes(files)


def _motion_energy(
    videos: Sequence[SamplerVideo],
    teacher: WindowTeacher,
    grid: WindowGrid,
    cache: Path,
    decoding: Decoding,
    progress: Progress,
) -> dict[str, NDArray[np.float32]]:
    """What would be chosen without a sampler: motion energy of the windows, by the names of the videos."""
    files = [v.video for v in videos]
    store = MotionStore(cache, teacher.spec, grid)
    store.update(files, decoding, lambda done, total: progress("motion", done, total))
    return store.read(files)


def _stopping(held_out: Sequence[HeldOutVideo], config: SamplerConfig) -> dict[str, Any]:
    """stopping and other_stopping; stopping_refused of the first bound that has no rule."""
    clips = clips_by_salience(held_out, config.max_clips)
    rules: dict[float, StoppingRule] = {}
    refused = ""
    for bound in dict.fromkeys(config.error_bounds):
        try:
            rules[bound] = calibrate_stopping(
                clips,
                error_bound=bound,
                confidence=config.confidence,
                max_clips=config.max_clips,
                averaging=PROTOCOL.averaging,
            )
        except InvalidRequest as err:
            refused = refused or err.message
    default = rules.pop(config.error_bounds[0], None)
    return {"stopping": default, "other_stopping": all_rules(None, rules.values()), "stopping_refused": refused}


def _calibration(
    held_out: Sequence[HeldOutVideo], config: SamplerConfig, teacher: WindowTeacher, *, labelled: bool
) -> dict[str, Any]:
    """calibration, or calibration_refused."""
    if not labelled:
        return {"calibration_refused": "a temperature needs labels that people gave"}
    if teacher.activation != "softmax":
        return {"calibration_refused": "the model scores each class by a sigmoid; a temperature is for a softmax"}
    clips = clips_by_salience(held_out, config.max_clips)
    try:
        scores = np.array([c.mean(axis=0) for c in clips], np.float32)
        labels = np.array([v.label for v in held_out], np.int64)
        made: ScoreCalibration = fit_temperature(scores, labels, protocol=PROTOCOL.name)
    except InvalidRequest as err:
        return {"calibration_refused": err.message}
    return {"calibration": made}
