"""Samplers, timelines and adaptive predictions as results and as people see them; no network."""

from __future__ import annotations

import json

import pytest

from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_client import _results as results
from tenclip_client._types import AdaptiveReport, ModelInfo, ModelList, SamplerInfo, StoppingRule
from tenclip_client.cli import render
from tenclip_client.cli.salience import adaptive_line, sampler_facts, sampler_word, timeline_notes

from .servicer import model, prediction
from .test_render import console, text

REPORT = pb.AdaptiveReport(clips_planned=10, clips_used=3, settled=True, error_bound=0.05, confidence=0.9)
RULE = pb.StoppingRule(
    threshold=0.62, min_clips=2, max_clips=10, error_bound=0.05, confidence=0.9, num_videos=400, mean_clips=3.25
)
SAMPLER = pb.Sampler(
    name="moves-compressed",
    kind="compressed",
    loss="rank",
    clip_span=32,
    window_step=16,
    target_fps=15,
    teacher="moves/1",
    audio_clips=2,
    stopping=RULE,
)


def salient() -> pb.PredictResponse:
    message = prediction(pb.PredictRequest(include_timeline=True), b"abc", "2")
    message.adaptive.CopyFrom(REPORT)
    message.timeline.flat = True
    message.timeline.notes.append("there is no sound")
    message.top[0].calibrated = 0.125
    return message


def with_sampler(sampler: pb.Sampler | None) -> ModelInfo:
    return results.model_info(pb.Model(name="m", version="1", clip_spec_json="{}", sampler=sampler))


def test_results() -> None:
    result = results.prediction(salient())
    assert result.adaptive == AdaptiveReport(
        clips_planned=10, clips_used=3, settled=True, error_bound=0.05, confidence=0.9
    )
    assert result.timeline is not None
    assert (result.timeline.flat, result.timeline.notes) == (True, ("there is no sound",))
    assert [score.calibrated for score in result.top] == [0.125, None, None, None, None]
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["adaptive"]["clips_used"] == 3
    assert plain["timeline"]["notes"] == ["there is no sound"]
    features = results.video_features(pb.ExtractFeaturesResponse(adaptive=REPORT))
    assert features.adaptive == result.adaptive
    assert results.video_features(pb.ExtractFeaturesResponse()).adaptive is None


def test_a_model_with_a_sampler() -> None:
    info = with_sampler(SAMPLER)
    assert info.sampler == SamplerInfo(
        name="moves-compressed",
        kind="compressed",
        loss="rank",
        clip_span=32,
        window_step=16,
        target_fps=15.0,
        teacher="moves/1",
        audio_clips=2,
        stopping=StoppingRule(
            threshold=0.62, min_clips=2, max_clips=10, error_bound=0.05, confidence=0.9, num_videos=400, mean_clips=3.25
        ),
    )
    bare = with_sampler(pb.Sampler(name="s", kind="rgb", loss="ac", clip_span=8, window_step=4))
    assert bare.sampler is not None
    assert (bare.sampler.target_fps, bare.sampler.stopping) == (None, None)
    assert with_sampler(None).sampler is None


def test_what_is_printed_of_a_prediction() -> None:
    out = console(width=200)
    render.print_prediction(out, "a.mp4", results.prediction(salient()))
    lines = text(out).splitlines()
    assert any(line.endswith("calibrated 12.5%") for line in lines)
    assert "  note: all windows score the same, so the scores say nothing of where the action is" in lines
    assert "  note: there is no sound" in lines
    (used,) = (line for line in lines if line.startswith("  used"))
    assert used == (
        "  used 3 of 10 clips: settled; on videos like those of the calibration, another class than with all clips in "
        "at most 5.0% of them (confidence 90.0%)"
    )


def test_a_prediction_that_was_not_settled() -> None:
    report = AdaptiveReport(clips_planned=10, clips_used=10, settled=False, error_bound=0.05, confidence=0.9)
    assert (
        str(adaptive_line(report))
        == "  used 10 of 10 clips: the classes were not settled before the last one, with an error bound of 0.05"
    )


@pytest.mark.parametrize("count", [0, 1])
def test_of_one_window_nothing_is_said(count: int) -> None:
    message = pb.Timeline(scorer="s", flat=True, points=[pb.TimelinePoint()] * count)
    assert timeline_notes(results._timeline(message)) == []


def test_facts_of_a_sampler() -> None:
    facts = dict(sampler_facts(with_sampler(SAMPLER).sampler))
    assert facts == {
        "sampler": "moves-compressed: compressed, loss rank, learned from moves/1, 2 of the clips chosen by sound",
        "sampler windows": "32 frames, 16 apart at 15 frames a second",
        "error bound 0.05": "adaptive stops at a lead of 0.62 after 2 to 10 clips, 3.25 on average; another class than "
        "with all of them in at most 5.0% of videos (confidence 90.0%, 400 videos)",
    }
    several = pb.Sampler()
    several.CopyFrom(SAMPLER)
    several.other_stopping.add(threshold=0.1, min_clips=1, max_clips=10, error_bound=0.2, confidence=0.9)
    several.other_stopping.add(threshold=0.9, min_clips=1, max_clips=10, error_bound=0.02, confidence=0.9)
    names = [name for name, _ in sampler_facts(with_sampler(several).sampler)]
    assert names[2:] == ["error bound 0.02", "error bound 0.05 (default)", "error bound 0.2"]
    assert dict(sampler_facts(None)) == {"sampler": "none: salient clips are found by motion energy"}
    bare = with_sampler(pb.Sampler(name="s", kind="rgb", loss="ac", clip_span=8, window_step=4)).sampler
    assert dict(sampler_facts(bare))["adaptive"] == "no: its bundle holds no stopping rule"
    assert [sampler_word(s) for s in (None, bare, with_sampler(SAMPLER).sampler)] == [
        "none",
        "rgb",
        "compressed, adaptive",
    ]


@pytest.mark.parametrize("width", [90, 200])
def test_models_have_a_column_of_samplers_where_one_has_a_sampler(width: int) -> None:
    sampled = model("2", full=False)
    sampled.sampler.CopyFrom(SAMPLER)
    infos = (results.model_info(model("1", full=False)), results.model_info(sampled))
    out = console(width)
    render.print_models(out, ModelList(models=infos, failed=()))
    header, *_ = text(out).splitlines()
    assert "sampler" in header
    assert max(len(line) for line in text(out).splitlines()) <= width
    without = console(width)
    render.print_models(without, ModelList(models=infos[:1], failed=()))
    assert "sampler" not in text(without)
    full = console(200)
    render.print_model(full, infos[1])
    assert "moves-compressed: compressed, loss rank" in text(full)
