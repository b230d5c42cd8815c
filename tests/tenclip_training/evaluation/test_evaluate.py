from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tenclip_api.errors import CheckpointError, DatasetError, InvalidRequest
from tenclip_data.manifest import Manifest, Sample, read_manifest
from tenclip_training.data.failures import Failure
from tenclip_training.evaluation.console import print_evaluation
from tenclip_training.evaluation.evaluate import (
    Accuracy,
    VideoScore,
    clip_outputs,
    evaluate,
    summarise,
)
from tenclip_training.models import VideoModel, create_model
from tenclip_training.runs.checkpoint import save_checkpoint
from tenclip_video.clips import read_clips
from tenclip_video.protocols import PROTOCOLS, video_probabilities
from tests.bitstreams import mux_packets, read_packets
from tests.tenclip_training.conftest import SPEC
from tests.videos import Recipe, make_video


@pytest.fixture
def model() -> VideoModel:
    torch.manual_seed(0)
    return create_model("r2plus1d_10", num_classes=2, width=4, num_frames=4, crop=16)


# -- the serving path --


@pytest.mark.parametrize(
    "name",
    [
        *("ten-clip", "fully-convolutional", "fully-convolutional-se", "vmz-joint", "vmz-logits", "center-clip"),
        *("sliding-window", "3d-resnets", "salient-clips"),
    ],
)
def test_scores_are_those_of_the_serving_path(model: VideoModel, action_videos: Path, name: str) -> None:
    manifest = read_manifest(action_videos)
    protocol = PROTOCOLS[name]
    result = evaluate(model, manifest, split="test", clip_spec=SPEC, protocol=name, decode_threads=2)
    assert [s.index for s in result.scores] == [0, 1, 2, 3]
    for score, sample in zip(result.scores, manifest.split("test").samples, strict=True):
        part = dataclasses.replace(
            protocol.selection, start_seconds=sample.start_seconds, end_seconds=sample.end_seconds
        )
        clips = read_clips(sample.path, SPEC, dataclasses.replace(protocol, selection=part))
        (outputs,) = clip_outputs(model.eval(), clips.clips, SPEC, "cpu")
        assert outputs.logits.shape[2] == (4 if protocol.fully_convolutional else 1)
        np.testing.assert_allclose(score.video, video_probabilities(outputs.logits, protocol.averaging), rtol=1e-5)
        assert score.seconds == clips.seconds
        assert score.clips.shape == (len(clips.plan), 2)
        assert score.targets == manifest.targets(sample)
    assert result.clip_top1.total == sum(len(s.clips) for s in result.scores)


def test_three_crops_are_averaged_into_one_clip(model: VideoModel, action_videos: Path) -> None:
    protocol = dataclasses.replace(PROTOCOLS["ten-clip"], name="three", crop="three")
    result = evaluate(model, read_manifest(action_videos), split="test", clip_spec=SPEC, protocol=protocol)
    assert result.clip_top1.total == 4 * 10
    np.testing.assert_allclose(result.scores[0].clips.mean(axis=0), result.scores[0].video, rtol=1e-5)


def test_a_model_is_left_as_it_was(model: VideoModel, action_videos: Path) -> None:
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    evaluate(model, read_manifest(action_videos), split="test", clip_spec=SPEC, protocol="center-clip")
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_clips_beyond_one_pass_are_scored_too(model: VideoModel) -> None:
    clips = np.random.default_rng(0).integers(0, 256, (70, 4, 16, 16, 3), dtype=np.uint8)
    model.eval()
    logits, features = map(np.concatenate, zip(*clip_outputs(model, clips, SPEC, "cpu"), strict=True))
    assert (logits.shape, len(features)) == ((70, 2, 1), 70)
    (one,) = clip_outputs(model, clips[40:41], SPEC, "cpu")
    np.testing.assert_allclose(logits[40:41], one.logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features[40:41], one.features, rtol=1e-4, atol=1e-5)


# -- counting --


def score(
    index: int, video: list[float], targets: tuple[int, ...], clips: list[list[float]] | None = None
) -> VideoScore:
    return VideoScore(
        index=index,
        name=f"v{index}",
        targets=targets,
        clips=np.array(clips or [video], np.float32),
        video=np.array(video, np.float32),
        seconds=((0.0, 1.0),) * len(clips or [video]),
    )


def manifest(num_classes: int) -> Manifest:
    return Manifest(source=Path("m.csv"), samples=(), labels=tuple("abcdefgh"[:num_classes]))


def test_counts_and_denominators() -> None:
    failure = Failure(video="v9", reason="EMPTY_VIDEO", message="v9: empty")
    outcomes: list[VideoScore | Failure] = [
        score(1, [0.2, 0.8], (1,), [[0.6, 0.4], [0.1, 0.9], [0.2, 0.8]]),
        failure,
        score(0, [0.3, 0.7], (0,), [[0.9, 0.1]]),
        score(2, [0.9, 0.1], (0,)),
    ]
    result = summarise(outcomes, manifest(2), split="test", protocol="ten-clip")
    assert (result.videos_asked, result.videos_decoded, result.skipped) == (4, 3, (failure,))
    assert result.video_top1 == Accuracy(correct=2, total=3)
    assert result.clip_top1 == Accuracy(correct=4, total=5)
    assert result.video_top5 == Accuracy(correct=3, total=3)
    assert result.per_class == (Accuracy(correct=1, total=2), Accuracy(correct=1, total=1))
    assert result.confusion == ((1, 1), (0, 1))
    assert result.loss == pytest.approx(-(math.log(0.8) + math.log(0.3) + math.log(0.9)) / 3, rel=1e-5)
    assert [s.name for s in result.scores] == ["v0", "v1", "v2"], "in the manifest's order"
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["video_top1"] == {"value": pytest.approx(2 / 3), "correct": 2, "total": 3}
    assert plain["videos_skipped"] == 1
    assert plain["skipped"][0]["reason"] == "EMPTY_VIDEO"
    assert plain["videos"][0] == {"video": "v0", "labels": ["a"], "predicted": "b", "score": pytest.approx(0.7)}


def test_top5_is_among_the_five_highest() -> None:
    descending = [0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05]
    hits = [
        summarise([score(0, descending, (k,))], manifest(7), split="", protocol="p").video_top5.correct
        for k in range(7)
    ]
    assert hits == [1, 1, 1, 1, 1, 0, 0]


def test_any_of_several_labels_is_a_hit() -> None:
    result = summarise(
        [score(0, [0.1, 0.7, 0.2], (1, 2)), score(1, [0.1, 0.7, 0.2], (0,))], manifest(3), split="", protocol="p"
    )
    assert result.video_top1 == Accuracy(correct=1, total=2)
    assert result.confusion is None
    assert [a.total for a in result.per_class] == [1, 1, 1]
    assert [a.correct for a in result.per_class] == [0, 1, 0]


def test_a_class_without_videos_has_no_accuracy() -> None:
    result = summarise([score(0, [0.9, 0.1], (0,))], manifest(2), split="", protocol="p")
    assert math.isnan(result.per_class[1].value)
    assert result.to_dict()["per_class"]["b"] == {
        "value": None,
        "correct": 0,
        "total": 0,
        "average_precision": None,
    }


def test_accuracy_reads_as_a_fraction() -> None:
    assert str(Accuracy(correct=57, total=64)) == "89.06% (57 of 64)"


# -- bad input --


def test_unreadable_videos_are_skipped_with_reasons(model: VideoModel, broken_manifest: Path) -> None:
    seen: list[tuple[int, int]] = []
    result = evaluate(
        model,
        read_manifest(broken_manifest),
        split="",
        clip_spec=SPEC,
        protocol="center-clip",
        decode_threads=3,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert (result.videos_asked, result.videos_decoded) == (18, 16)
    assert sorted(f.reason for f in result.skipped) == ["EMPTY_VIDEO", "NOT_A_VIDEO"]
    assert result.video_top1.total == 16
    assert seen == [(i, 18) for i in range(1, 19)]


def test_nothing_but_unreadable_videos(model: VideoModel, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    samples = (Sample(path=tmp_path / "a.mp4", name="a.mp4", labels=("x",), split="test"),)
    bad = Manifest(source=tmp_path / "m.csv", samples=samples, labels=("x", "y"))
    with pytest.raises(DatasetError, match=r"none of 1 videos of split 'test' could be used.*EMPTY_VIDEO"):
        evaluate(model, bad, split="test", clip_spec=SPEC)


def test_videos_with_damaged_frames_are_named(
    model: VideoModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = make_video(Recipe(num_frames=20, gop=5))
    packets = [
        dataclasses.replace(p, data=p.data[:8] + bytes(len(p.data) - 8)) if n in (7, 8) else p
        for n, p in enumerate(read_packets(video))
    ]
    (tmp_path / "whole.mp4").write_bytes(video)
    (tmp_path / "damaged.mp4").write_bytes(mux_packets(video, packets, "mp4"))
    (tmp_path / "list.csv").write_text("path,label,split\nwhole.mp4,run,test\ndamaged.mp4,walk,test\n")
    manifest = read_manifest(tmp_path / "list.csv")
    result = evaluate(model, manifest, split="test", clip_spec=SPEC, protocol="sliding-window")
    assert result.damaged == ("damaged.mp4",)
    assert result.to_dict()["damaged"] == ["damaged.mp4"]
    print_evaluation(result, title="damaged")
    assert "stood in for by others, in: damaged.mp4" in " ".join(capsys.readouterr().out.split())


def test_a_part_beyond_the_end_is_skipped(model: VideoModel, action_videos: Path) -> None:
    videos = read_manifest(action_videos).split("test")
    late = dataclasses.replace(videos.samples[0], start_seconds=50.0, end_seconds=None)
    result = evaluate(model, dataclasses.replace(videos, samples=(late, videos.samples[1])), split="", clip_spec=SPEC)
    assert (result.videos_asked, result.videos_decoded) == (2, 1)
    assert "no frame between 50 s" in result.skipped[0].message


def test_a_checkpoint_brings_its_spec_and_label_order(model: VideoModel, action_videos: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    videos = read_manifest(action_videos)
    save_checkpoint(path, model, clip_spec=SPEC, labels=("move_right", "move_left"), provenance={})
    result = evaluate(path, videos, split="test", protocol="center-clip")
    assert result.labels == ("move_right", "move_left")
    assert {s.targets for s in result.scores} == {(0,), (1,)}
    assert result.scores[0].targets == (1,), "the first is of move_left"
    save_checkpoint(path, model, clip_spec=SPEC, labels=("jump", "run"), provenance={})
    with pytest.raises(DatasetError, match="label 'move_left' is not one of the 2 known ones"):
        evaluate(path, videos, split="test")
    with pytest.raises(CheckpointError, match="no such file"):
        evaluate(tmp_path / "gone.pt", videos, split="test")


def test_a_public_checkpoint_brings_its_own_protocol_and_input(
    model: VideoModel, action_videos: Path, tmp_path: Path
) -> None:
    torch.save(model.state_dict(), tmp_path / "public.pth")
    part = read_manifest(action_videos).split("test")
    part = dataclasses.replace(part, samples=part.samples[:1])
    result = evaluate(tmp_path / "public.pth", part, split="", family="vmz")
    assert result.protocol == "fully-convolutional"
    assert result.videos_decoded == 1


def test_wrong_arguments(model: VideoModel, action_videos: Path) -> None:
    videos = read_manifest(action_videos)
    with pytest.raises(InvalidRequest, match="protocol '11-clip' is not one of ten-clip"):
        evaluate(model, videos, split="test", clip_spec=SPEC, protocol="11-clip")
    with pytest.raises(ValueError, match="needs its clip_spec"):
        evaluate(model, videos, split="test")
    with pytest.raises(DatasetError, match="2 labels for a model of 3"):
        evaluate(create_model("r2plus1d_10", num_classes=3, width=4), videos, split="test", clip_spec=SPEC)
    with pytest.raises(DatasetError, match="no video in split 'dev'"):
        evaluate(model, videos, split="dev", clip_spec=SPEC)
