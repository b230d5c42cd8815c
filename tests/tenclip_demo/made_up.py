"""A report as a demo would make it, with made-up figures: for tests of the page."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image

from tenclip_demo.report import (
    Count,
    DataFacts,
    Epoch,
    Evaluation,
    FailedVideo,
    ProbeFacts,
    Report,
    Segment,
    ServerFacts,
    StageTime,
    TrainingFacts,
    VideoCard,
)
from tenclip_export.parity import Row
from tenclip_video.bundle import Tolerance

LABELS = (
    "move_left", "move_right", "rotate_clockwise", "rotate_counterclockwise", "zoom_in", "zoom_out", "circle", "shake",
)  # fmt: skip


def jpeg(shade: int) -> bytes:
    buffer = io.BytesIO()
    y, x = np.mgrid[0:66, 0:88]
    picture = np.stack([(x * 2 + shade) % 256, (y * 3) % 256, np.full_like(x, shade)], axis=-1).astype(np.uint8)
    Image.fromarray(picture).save(buffer, "JPEG", quality=70)
    return buffer.getvalue()


def card(
    *, index: int = 0, name: str = "", right: bool = True, interval: bool = False, group: str = "Held-out videos"
) -> VideoCard:
    rng = np.random.default_rng(index)
    truth = index % len(LABELS)
    best = truth if right else (truth + 1) % len(LABELS)
    duration = 2.0 + 6.0 * interval
    windows = 8 + 14 * interval
    segments = []
    for w in range(windows):
        logits = rng.normal(size=len(LABELS))
        logits[best] += 4
        scores = np.exp(logits) / np.exp(logits).sum()
        segments.append(
            Segment(start=w * duration / windows, end=(w + 1) * duration / windows, scores=tuple(map(float, scores)))
        )
    mean = np.mean([s.scores for s in segments], axis=0)
    order = np.argsort(-mean)
    return VideoCard(
        name=name or f"videos/{LABELS[truth]}/{LABELS[truth]}_{index:05d}.mp4",
        group=group,
        truth=LABELS[truth],
        top=tuple((LABELS[i], float(mean[i])) for i in order[:5]),
        labels=LABELS,
        duration=duration,
        facts="112x84, 25 fps, h264, 2.0 s",
        segments=tuple(segments),
        salience=tuple(
            (w * duration / windows, (w + 1) * duration / windows, 0.2 + abs(math.sin(w))) for w in range(windows)
        ),
        thumbnails=tuple(jpeg(20 * i) for i in range(10)),
        interval=(2.5, 5.0) if interval else None,
    )


def report(**changes: object) -> Report:
    rng = np.random.default_rng(0)
    confusion = np.diag([20] * 8)
    confusion[2, 3], confusion[2, 2] = 2, 18
    latencies = tuple(float(v) for v in 0.04 + 0.02 * rng.gamma(2, 1, 160))
    values: dict[str, object] = {
        "title": "tenclip demo",
        "quick": False,
        "seed": 0,
        "machine": "AMD EPYC 7B13, 2 cores, Linux x86_64",
        "versions": (("tenclip", "0.1.0"), ("torch", "2.13.0")),
        "data": DataFacts(
            source="Generated action videos",
            description="8 classes of motion that no single frame tells apart, as H.264 files.",
            classes=LABELS,
            train_videos=480,
            held_out_videos=160,
        ),
        "training": TrainingFacts(
            architecture="r2plus1d_10",
            parameters=891234,
            clip="8 frames of 56x56",
            curve=tuple(
                Epoch(
                    epoch=e,
                    loss=2.1 * math.exp(-e / 6) + 0.05,
                    train_top1=1 - math.exp(-e / 5),
                    val_loss=2.1 * math.exp(-e / 7) + 0.1 if e % 2 == 0 else None,
                    val_top1=1 - math.exp(-e / 4) if e % 2 == 0 else None,
                )
                for e in range(1, 21)
            ),
        ),
        "evaluation": Evaluation(
            split="test",
            protocol="ten-clip",
            labels=LABELS,
            video_top1=Count(correct=158, total=160),
            video_top5=Count(correct=160, total=160),
            clip_top1=Count(correct=1500, total=1600),
            confusion=tuple(tuple(int(n) for n in row) for row in confusion),
        ),
        "required": 0.9,
        "server": ServerFacts(
            runtime="openvino",
            runtime_reason="preferred; the bundle has no measured speeds",
            protocol="ten-clip",
            latencies=latencies,
            stage_seconds=(("decode", 0.021), ("queue", 0.004), ("run", 0.03)),
            top1=Count(correct=158, total=160),
            agreement=Count(correct=160, total=160),
            p50=float(np.median(latencies)),
            p95=float(np.quantile(latencies, 0.95)),
        ),
        "probes": (
            ProbeFacts(
                label_set="speed",
                description="How fast the objects move.",
                classes=("slow", "medium", "fast"),
                train_videos=480,
                accuracy=Count(correct=120, total=160),
                chance=0.35,
            ),
        ),
        "parity": tuple(
            Row(
                variant="fp32",
                runtime=runtime,
                crop=crop,
                max_abs=1e-6,
                relative_l2=4e-7,
                features_relative_l2=5e-7,
                top1_agreement=1.0,
                num_clips=6,
                passed=True,
            )
            for runtime in ("openvino", "onnxruntime")
            for crop in (56, 64)
        ),
        "tolerance": Tolerance(logits=1e-4, features=1e-4),
        "cards": (
            *(card(index=i, right=i != 3) for i in range(8)),
            card(index=9, interval=True, group="Untrimmed: the action fills a part"),
        ),
        "failed_videos": (FailedVideo(name="notes.mp4", reason="NOT_A_VIDEO", message="no container that we accept"),),
        "stages": tuple(
            StageTime(name=name, title=title, seconds=s, reused=name == "generate")
            for name, title, s in (
                ("generate", "make the videos", 31.2),
                ("train", "train", 181.0),
                ("evaluate", "evaluate", 12.0),
                ("export", "export", 9.0),
                ("predict", "predict through the server", 15.0),
                ("probe", "fit the probe", 2.0),
            )
        ),
        "commands": ("tenclip serve demo/models", "tenclip predict VIDEO.mp4"),
    }
    return Report(**{**values, **changes})  # type: ignore[arg-type]
