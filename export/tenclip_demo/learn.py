"""From videos to a bundle: generate or read, train, evaluate, export. A second run takes over what is done."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import TenclipError
from tenclip_data.manifest import Sample, read_manifest
from tenclip_demo.config import MODEL_NAME, DemoConfig
from tenclip_demo.fitting import train_or_resume
from tenclip_demo.recipe import training_config
from tenclip_demo.served import ABOUT_ONE_VIDEO
from tenclip_demo.stages import Result, Stages
from tenclip_demo.videos import DemoVideos, Progress, generated_videos, users_videos
from tenclip_export.bundle_writer import export_bundle
from tenclip_export.golden import middle_clip
from tenclip_export.parity import Row
from tenclip_training.evaluation.evaluate import evaluate
from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_video.bundle import Bundle, read_bundle

GOLDEN_VIDEOS = 3  # held-out videos whose middle clips are among the golden ones


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A trained and exported model, and the results of the stages that led to it, as `state.json` keeps them."""

    videos: DemoVideos
    trained: Result
    evaluated: Result
    bundle: Bundle
    parity: tuple[Row, ...]

    @property
    def paths(self) -> list[Path]:
        """The videos that a server is asked about."""
        rows = (*self.videos.test.samples, *self.videos.untrimmed)
        return [
            *(sample.path for sample in rows),
            *(part.path for probe in self.videos.probes for part in probe.videos),
        ]


def learn(config: DemoConfig, stages: Stages) -> Learned:
    """The stages generate, train, evaluate and export. Raises TenclipError; KeyboardInterrupt where training is."""
    videos = _prepare(config, stages)
    trained = _train(config, stages, videos)
    checkpoint = config.out / "training" / trained["checkpoint"]
    evaluated = _evaluate(stages, videos, checkpoint)
    exported = _export(config.out, stages, videos, checkpoint)
    return Learned(
        videos=videos,
        trained=trained,
        evaluated=evaluated,
        bundle=read_bundle(config.out / exported["bundle"]),
        parity=tuple(Row(**row) for row in exported["rows"]),
    )


# -- videos --


def _prepare(config: DemoConfig, stages: Stages) -> DemoVideos:
    folder = config.out / "videos"
    videos: DemoVideos | None = None

    def make(resumed: bool) -> Result:
        nonlocal videos
        if not resumed:
            shutil.rmtree(folder, ignore_errors=True)
        videos = _videos(config, folder, stages.console.update)
        return {"manifest": str(videos.manifest.relative_to(config.out))}

    title = "generating videos" if config.data is None else f"reading {config.data}"
    settings = {"tenclip": version("tenclip"), "quick": config.quick, "seed": config.seed, **_source(config)}
    stages.run("generate", title, settings, make, intact=lambda r: (config.out / r["manifest"]).is_file())
    return videos or _videos(config, folder, lambda done, total: None)  # all there: this only reads


def _videos(config: DemoConfig, folder: Path, progress: Progress) -> DemoVideos:
    if config.data is None:
        return generated_videos(config, folder, progress)
    return users_videos(config, folder)


def _source(config: DemoConfig) -> dict[str, Any]:
    """Settings that a second run must find unchanged: the generator's, or all that the user's data says of each video
    (labels, split, part), with sizes and times of the files.
    """
    if config.data is None:
        return {"synth": [s.to_dict() for s in (config.synth, config.unseen, config.untrimmed)]}
    manifest = read_manifest(config.data)
    rows = json.dumps([manifest.labels, [_row(sample) for sample in manifest.samples]])
    return {"data": str(config.data.resolve()), "rows": hashlib.sha256(rows.encode()).hexdigest()}


def _row(sample: Sample) -> list[Any]:
    stat = sample.path.stat()
    part = [sample.start_seconds, sample.end_seconds]
    return [sample.name, sample.labels, sample.split, *part, stat.st_size, stat.st_mtime_ns]


# -- training --


def _train(config: DemoConfig, stages: Stages, videos: DemoVideos) -> Result:
    folder = config.out / "training"
    train_config = training_config(videos, folder, quick=config.quick, seed=config.seed)

    def fit(resumed: bool) -> Result:
        result = train_or_resume(train_config, stages.console.update, resumed=resumed)
        model = load_checkpoint(result.last).model
        return {
            "checkpoint": result.last.name,
            "history": [dataclasses.asdict(h) for h in result.history],
            "architecture": model.architecture,
            "parameters": sum(p.numel() for p in model.parameters()),
        }

    settings = {k: v for k, v in train_config.to_dict().items() if k not in ("manifest", "out")}
    return stages.run("train", "training", settings, fit, intact=lambda r: (folder / r["checkpoint"]).is_file())


# -- evaluation and export --


def _evaluate(stages: Stages, videos: DemoVideos, checkpoint: Path) -> Result:
    def score(_: bool) -> Result:
        result = evaluate(checkpoint, videos.test, split="", decode_threads=2, progress=stages.console.update)
        return result.to_dict()

    return stages.run("evaluate", "evaluating held-out videos", {}, score, intact=lambda _: True)


def _export(out: Path, stages: Stages, videos: DemoVideos, checkpoint: Path) -> Result:
    def write(_: bool) -> Result:
        loaded = load_checkpoint(checkpoint)
        rows: list[Row] = []
        bundle = export_bundle(
            loaded.model,
            loaded.clip_spec,
            out / "models",
            name=MODEL_NAME,
            version="1",
            labels=loaded.labels,
            clips=_golden_clips(checkpoint, videos, larger=False),
            fully_convolutional_clips=_golden_clips(checkpoint, videos, larger=True),
            provenance=loaded.provenance,
            overwrite=True,
            on_row=rows.append,
        )
        return {"bundle": str(bundle.path.relative_to(out)), "rows": [dataclasses.asdict(r) for r in rows]}

    return stages.run("export", "exporting", {}, write, intact=lambda result: _reads(out / result["bundle"]))


def _reads(bundle: Path) -> bool:
    try:
        read_bundle(bundle)
    except TenclipError:
        return False
    return True


def _golden_clips(checkpoint: Path, videos: DemoVideos, *, larger: bool) -> NDArray[np.uint8] | None:
    """The middle clips of the first held-out videos that decode, uint8 [N,T,H,W,3]; larger: at the larger crop.

    None where no video decodes, or the model has no larger crop.
    """
    spec = load_checkpoint(checkpoint).clip_spec
    if larger and spec.fully_convolutional_crop is None:
        return None
    clips: list[NDArray[np.uint8]] = []
    for sample in videos.test.samples:
        try:
            clips.append(middle_clip(sample.path, spec, fully_convolutional=larger))
        except ABOUT_ONE_VIDEO:
            continue
        if len(clips) == GOLDEN_VIDEOS:
            break
    return np.concatenate(clips) if clips else None
