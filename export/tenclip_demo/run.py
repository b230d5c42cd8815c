"""`run_demo(config)`: every stage in order.

OUT/videos/        generated videos and their manifest (with --data: the manifest alone)
OUT/training/      the training run: checkpoints, history
OUT/models/        the bundle; `tenclip serve OUT/models` serves it
OUT/server.log     what the server said
OUT/report.html    the page
OUT/summary.json   its figures
OUT/state.json     what is done, for the next run
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import signal
import statistics
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tenclip_api.errors import CheckpointError, DatasetError, TenclipError
from tenclip_client import Client
from tenclip_data.atomic import write_text
from tenclip_data.manifest import Sample, read_manifest
from tenclip_demo.config import MODEL_NAME, DemoConfig
from tenclip_demo.console import StageConsole
from tenclip_demo.page import render_page
from tenclip_demo.probes import run_probe
from tenclip_demo.recipe import training_config
from tenclip_demo.report import (
    Count,
    Epoch,
    Evaluation,
    FailedVideo,
    ProbeFacts,
    Report,
    ServerFacts,
    TrainingFacts,
    VideoCard,
)
from tenclip_demo.served import (
    ABOUT_ONE_VIDEO,
    Answer,
    extract_features,
    median_timings,
    predict_all,
    quantile,
    video_card,
)
from tenclip_demo.server import ServerProcess
from tenclip_demo.stages import Result, Stages
from tenclip_demo.videos import DemoVideos, Progress, generated_videos, users_videos
from tenclip_export import speed
from tenclip_export.bundle_writer import export_bundle
from tenclip_export.parity import Row
from tenclip_training.evaluation.evaluate import evaluate
from tenclip_training.runs import train as training
from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_video.bundle import Bundle, read_bundle
from tenclip_video.clips import read_clips
from tenclip_video.protocols import Protocol
from tenclip_video.sampling import ClipSelection
from tenclip_video.spec import ClipSpec

# Titles of the page's groups of videos.
UNTRIMMED = "Untrimmed videos: the action fills only a part, marked in green"
OF_THE_USER = "Videos of yours: the model knows no other classes than its own"
HELD_OUT = "Held-out videos: the first of each class, and some that it gets wrong"
WRONG_CARDS = 3  # videos that the model gets wrong and that the page shows
MOST_CARDS = 10


def run_demo(config: DemoConfig, console: StageConsole) -> Report:
    """Everything, from videos to the page. What an earlier run with the same settings finished is taken from it.

    Raises TenclipError. The server is stopped in any case.
    """
    with _sigterm_unwinds():
        demo = _Demo(config, console)
        demo.prepare()
        demo.train()
        demo.evaluate()
        demo.export()
        return demo.serve()


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """SIGTERM leaves through the same `finally` clauses as Ctrl-C: a server left running would be nobody's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Demo:
    """What the stages hand on to each other."""

    videos: DemoVideos
    checkpoint: Path
    bundle: Bundle

    def __init__(self, config: DemoConfig, console: StageConsole) -> None:
        self.config, self.console = config, console
        self.out = config.out
        self.stages = Stages(config.out, console)
        self.trained: Result = {}
        self.evaluated: Result = {}
        self.exported: Result = {}

    # -- stages that a second run takes over --

    def prepare(self) -> None:
        config, folder = self.config, self.out / "videos"

        def make(resumed: bool) -> Result:
            if not resumed:
                shutil.rmtree(folder, ignore_errors=True)
            self.videos = self._videos(self.console.update)
            return {"manifest": str(self.videos.manifest.relative_to(self.out))}

        title = "generating videos" if config.data is None else f"reading {config.data}"
        settings = {"tenclip": version("tenclip"), "quick": config.quick, "seed": config.seed, **self._source()}
        self.stages.run("generate", title, settings, make, intact=lambda r: (self.out / r["manifest"]).is_file())
        if not hasattr(self, "videos"):
            self.videos = self._videos(lambda done, total: None)  # all there: this only reads

    def _videos(self, progress: Progress) -> DemoVideos:
        if self.config.data is None:
            return generated_videos(self.config, self.out / "videos", progress)
        return users_videos(self.config, self.out / "videos")

    def _source(self) -> dict[str, Any]:
        if self.config.data is None:
            return {"synth": [s.to_dict() for s in (self.config.synth, self.config.unseen, self.config.untrimmed)]}
        stats = [(s.name, s.path.stat()) for s in read_manifest(self.config.data).samples]
        files = json.dumps([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
        return {"data": str(self.config.data.resolve()), "files": hashlib.sha256(files.encode()).hexdigest()}

    def train(self) -> None:
        folder = self.out / "training"
        train_config = training_config(self.videos, folder, quick=self.config.quick, seed=self.config.seed)

        def fit(resumed: bool) -> Result:
            if not resumed:
                shutil.rmtree(folder, ignore_errors=True)
            try:
                result = training.train(train_config, resume=True, progress=self._training_progress)
            except CheckpointError:
                if not resumed:
                    raise
                shutil.rmtree(folder)  # what is there cannot be gone on from, so it begins anew
                result = training.train(train_config, resume=True, progress=self._training_progress)
            if not result.completed:
                # The trainer has caught Ctrl-C, finished its step and saved: now the demo ends too.
                raise KeyboardInterrupt
            model = load_checkpoint(result.last).model
            return {
                "checkpoint": result.last.name,
                "history": [dataclasses.asdict(h) for h in result.history],
                "architecture": model.architecture,
                "parameters": sum(p.numel() for p in model.parameters()),
            }

        settings = {k: v for k, v in train_config.to_dict().items() if k not in ("manifest", "out")}
        self.trained = self.stages.run(
            "train", "training", settings, fit, intact=lambda r: (folder / r["checkpoint"]).is_file()
        )
        self.checkpoint = folder / self.trained["checkpoint"]

    def _training_progress(self, p: training.Progress) -> None:
        if p.stage != "train":
            self.console.update(p.done, p.total, "videos into memory" if p.stage == "cache" else "videos validated")
            return
        done = (p.epoch - 1) * p.total + p.done
        self.console.update(done, p.epochs * p.total, f"epoch {p.epoch} of {p.epochs}, loss {p.loss:.3f}")

    def evaluate(self) -> None:
        def score(_: bool) -> Result:
            result = evaluate(
                self.checkpoint, self.videos.test, split="", decode_threads=2, progress=self.console.update
            )
            return result.to_dict()

        self.evaluated = self.stages.run("evaluate", "evaluating held-out videos", {}, score, intact=lambda _: True)

    def export(self) -> None:
        def write(_: bool) -> Result:
            checkpoint = load_checkpoint(self.checkpoint)
            rows: list[Row] = []
            bundle = export_bundle(
                checkpoint.model,
                checkpoint.clip_spec,
                self.out / "models",
                name=MODEL_NAME,
                version="1",
                labels=checkpoint.labels,
                clips=self._golden(larger=False),
                fully_convolutional_clips=self._golden(larger=True),
                provenance=checkpoint.provenance,
                overwrite=True,
                on_row=rows.append,
            )
            return {"bundle": str(bundle.path.relative_to(self.out)), "rows": [dataclasses.asdict(r) for r in rows]}

        def intact(result: Result) -> bool:
            try:
                read_bundle(self.out / result["bundle"])
            except TenclipError:
                return False
            return True

        self.exported = self.stages.run("export", "exporting", {}, write, intact=intact)
        self.bundle = read_bundle(self.out / self.exported["bundle"])

    def _golden(self, *, larger: bool) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None:
        """The middle clips of the first three held-out videos that decode."""
        spec = load_checkpoint(self.checkpoint).clip_spec
        if larger and spec.fully_convolutional_crop is None:
            return None
        center = ClipSelection(mode="center", num_clips=1)
        protocol = Protocol(selection=center, fully_convolutional=larger)
        clips = []
        for sample in self.videos.test.samples:
            try:
                clips.append(read_clips(sample.path, spec, protocol).clips)
            except ABOUT_ONE_VIDEO:
                continue
            if len(clips) == 3:
                break
        return np.concatenate(clips) if clips else None

    # -- with the server --

    def serve(self) -> Report:
        roots = sorted({p.resolve().parent for p in (*self._test_paths(), *self.config.videos) if p.exists()})
        server = ServerProcess(self.out / "models", self.out / "server.log", allow_roots=roots)
        try:
            self.stages.now("serve", "starting the server", server.__enter__)
            with Client(server.address, timeout=120) as client:
                return self._ask(client)
        finally:
            server.stop()

    def _test_paths(self) -> list[Path]:
        return [s.path for s in self.videos.test.samples]

    def _ask(self, client: Client) -> Report:
        update, now = self.console.update, self.stages.now
        answers, failed = now(
            "predict", "predicting held-out videos", lambda: predict_all(client, self._test_paths(), update)
        )
        if not answers:
            raise DatasetError(
                f"the server predicted none of {len(failed)} held-out videos; first: {failed[0].message}"
            )
        cards, refused = now("look", "predicting over time", lambda: self._cards(client, answers))
        videos = list(dict.fromkeys(v for p in self.videos.probes for v in p.videos))
        table = now("features", "extracting features", lambda: extract_features(client, videos, update))
        probes = now("probe", "fitting probes", lambda: tuple(run_probe(p, table, update) for p in self.videos.probes))
        model = client.get_model()
        facts = self._server_facts(answers, model.runtime, model.runtime_reason)
        report = self._report(facts, probes, cards, (*failed, *refused))
        write_text(self.out / "report.html", render_page(report))
        write_text(self.out / "summary.json", json.dumps(report.summary(), indent=2, allow_nan=False) + "\n")
        return report

    def _cards(self, client: Client, answers: Sequence[Answer]) -> tuple[list[VideoCard], list[FailedVideo]]:
        wanted: list[tuple[Sample | Path, str]] = [
            *((s, UNTRIMMED) for s in self.videos.untrimmed),
            *((p, OF_THE_USER) for p in self.config.videos),
            *((s, HELD_OUT) for s in self._chosen(answers)),
        ]
        cards: list[VideoCard] = []
        failed: list[FailedVideo] = []
        for done, (what, group) in enumerate(wanted, start=1):
            path = what.path if isinstance(what, Sample) else what
            interval = None
            if isinstance(what, Sample) and what.start_seconds is not None and what.end_seconds is not None:
                interval = (what.start_seconds, what.end_seconds)
            try:
                cards.append(
                    video_card(
                        client,
                        path,
                        labels=self.bundle.labels,
                        spec=self.bundle.info.clip_spec,
                        group=group,
                        name=path.name,
                        truth=what.labels[0] if isinstance(what, Sample) else None,
                        interval=interval,
                        salient=group != HELD_OUT,
                    )
                )
            except ABOUT_ONE_VIDEO as err:
                failed.append(FailedVideo(name=path.name, reason=err.reason, message=err.message))
            self.console.update(done, len(wanted))
        return cards, failed

    def _chosen(self, answers: Sequence[Answer]) -> list[Sample]:
        """The first video of each class, and the first few that the server gets wrong."""
        predicted = {a.path: a.label for a in answers}
        samples = [s for s in self.videos.test.samples if s.path in predicted]
        first = {s.labels[0]: s for s in reversed(samples)}
        wrong = [s for s in samples if predicted[s.path] != s.labels[0] and s not in first.values()][:WRONG_CARDS]
        return [*[first[label] for label in self.videos.test.labels if label in first][:MOST_CARDS], *wrong]

    # -- the report --

    def _server_facts(self, answers: Sequence[Answer], runtime: str, reason: str) -> ServerFacts:
        truth = {s.path: s.labels[0] for s in self.videos.test.samples}
        by_torch = {v["video"]: v["predicted"] for v in self.evaluated["videos"]}
        names = {s.path: s.key for s in self.videos.test.samples}
        both = [a for a in answers if names[a.path] in by_torch]
        return ServerFacts(
            runtime=runtime,
            runtime_reason=reason,
            protocol=self.bundle.info.default_protocol,
            latencies=tuple(a.seconds for a in answers),
            stage_seconds=median_timings(answers),
            top1=Count(correct=sum(a.label == truth[a.path] for a in answers), total=len(answers)),
            agreement=Count(correct=sum(a.label == by_torch[names[a.path]] for a in both), total=len(both)),
            p50=statistics.median(a.seconds for a in answers),
            p95=quantile((a.seconds for a in answers), 0.95),
        )

    def _report(
        self,
        server: ServerFacts,
        probes: tuple[ProbeFacts, ...],
        cards: Sequence[VideoCard],
        failed: Sequence[FailedVideo],
    ) -> Report:
        spec, evaluated, trained = self.bundle.info.clip_spec, self.evaluated, self.trained
        confusion = evaluated["confusion"]
        skipped = tuple((s["video"], s["message"]) for s in evaluated["skipped"])
        return Report(
            title="tenclip demo",
            quick=self.config.quick,
            seed=self.config.seed,
            machine=speed.machine(),
            versions=tuple((p, version(p)) for p in ("tenclip", "torch", "onnx", "openvino")),
            data=dataclasses.replace(self.videos.facts, skipped=skipped),
            training=TrainingFacts(
                architecture=trained["architecture"],
                parameters=trained["parameters"],
                clip=_in_words(spec),
                curve=tuple(_epoch(h) for h in trained["history"]),
            ),
            evaluation=Evaluation(
                split=self.videos.test_split,
                protocol=evaluated["protocol"],
                labels=tuple(evaluated["labels"]),
                video_top1=_count(evaluated["video_top1"]),
                video_top5=_count(evaluated["video_top5"]),
                clip_top1=_count(evaluated["clip_top1"]),
                confusion=None if confusion is None else tuple(tuple(row) for row in confusion),
            ),
            required=self.config.required_top1,
            server=server,
            probes=probes,
            parity=tuple(Row(**row) for row in self.exported["rows"]),
            tolerance=self.bundle.info.tolerance,
            cards=tuple(cards),
            failed_videos=tuple(failed),
            stages=tuple(self.stages.times),
            commands=(
                f"tenclip serve {self.out / 'models'}",
                "tenclip predict VIDEO.mp4",
                "tenclip features VIDEO.mp4 --out features.parquet",
            ),
        )


def _in_words(spec: ClipSpec) -> str:
    rate = "" if spec.target_fps is None else f" at {spec.target_fps:g} frames a second"
    stride = "" if spec.frame_stride == 1 else f", every {spec.frame_stride}th"
    return f"{spec.num_frames} frames{stride}{rate}, {spec.crop}x{spec.crop} pixels"


def _count(accuracy: dict[str, Any]) -> Count:
    return Count(correct=accuracy["correct"], total=accuracy["total"])


def _epoch(history: dict[str, Any]) -> Epoch:
    return Epoch(
        epoch=history["epoch"],
        loss=history["loss"],
        train_top1=history["train_clip_top1"],
        val_loss=history["val_loss"],
        val_top1=history["val_video_top1"],
    )
