"""From the results of the stages to the `Report`."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from tenclip_demo.ask import Findings
from tenclip_demo.config import DemoConfig
from tenclip_demo.learn import Learned
from tenclip_demo.report import Count, Epoch, Evaluation, Report, ServerFacts, StageTime, TrainingFacts
from tenclip_demo.served import median_timings, quantile
from tenclip_demo.stages import Result
from tenclip_export import speed
from tenclip_video.wording import clip_in_words


def make_report(config: DemoConfig, learned: Learned, findings: Findings, times: Sequence[StageTime]) -> Report:
    """Everything that the page shows and that `summary.json` says."""
    skipped = tuple((s["video"], s["message"]) for s in learned.evaluated["skipped"])
    return Report(
        title="tenclip demo",
        quick=config.quick,
        seed=config.seed,
        machine=speed.machine(),
        versions=tuple((p, version(p)) for p in ("tenclip", "torch", "onnx", "openvino")),
        data=dataclasses.replace(learned.videos.facts, skipped=skipped),
        training=_training(learned),
        evaluation=_evaluation(learned),
        required=config.required_top1,
        server=_server(learned, findings),
        probes=findings.probes,
        parity=learned.parity,
        tolerance=learned.bundle.info.tolerance,
        cards=findings.cards,
        failed_videos=findings.failed,
        stages=tuple(times),
        commands=(
            f"tenclip serve {config.out / 'models'}",
            "tenclip predict VIDEO.mp4",
            "tenclip features VIDEO.mp4 --out features.parquet",
        ),
    )


def _training(learned: Learned) -> TrainingFacts:
    return TrainingFacts(
        architecture=learned.trained["architecture"],
        parameters=learned.trained["parameters"],
        clip=clip_in_words(learned.bundle.info.clip_spec),
        curve=tuple(_epoch(h) for h in learned.trained["history"]),
    )


def _evaluation(learned: Learned) -> Evaluation:
    evaluated = learned.evaluated
    confusion = evaluated["confusion"]
    return Evaluation(
        split=learned.videos.test_split,
        protocol=evaluated["protocol"],
        labels=tuple(evaluated["labels"]),
        video_top1=_count(evaluated["video_top1"]),
        video_top5=_count(evaluated["video_top5"]),
        clip_top1=_count(evaluated["clip_top1"]),
        confusion=None if confusion is None else tuple(tuple(row) for row in confusion),
    )


def _server(learned: Learned, findings: Findings) -> ServerFacts:
    """The server's answers, held against the true classes and against torch on the same videos."""
    answers = findings.answers
    truth = {s.key: s.labels[0] for s in learned.videos.test.samples}
    by_torch = {v["video"]: v["predicted"] for v in learned.evaluated["videos"]}
    both = [a for a in answers if a.key in by_torch]
    return ServerFacts(
        runtime=findings.runtime,
        runtime_reason=findings.runtime_reason,
        protocol=learned.bundle.info.default_protocol,
        latencies=tuple(a.seconds for a in answers),
        stage_seconds=median_timings(answers),
        top1=Count(correct=sum(a.label == truth[a.key] for a in answers), total=len(answers)),
        agreement=Count(correct=sum(a.label == by_torch[a.key] for a in both), total=len(both)),
        p50=statistics.median(a.seconds for a in answers),
        p95=quantile((a.seconds for a in answers), 0.95),
    )


def _count(accuracy: Result) -> Count:
    return Count(correct=accuracy["correct"], total=accuracy["total"])


def _epoch(history: dict[str, Any]) -> Epoch:
    return Epoch(
        epoch=history["epoch"],
        loss=history["loss"],
        train_top1=history["train_clip_top1"],
        val_loss=history["val_loss"],
        val_top1=history["val_video_top1"],
    )
