"""What a page says of an answer, and what it does with names that are not meant well."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_api.errors import NotAVideo
from tenclip_client import ClipPrediction, DecodeReport, ModelInfo
from tenclip_client.report import facts
from tenclip_client.report.over_time import MAX_BARS, MAX_ROWS
from tenclip_client.report.page import video_page
from tenclip_client.report.section import Outcome, section

from . import made_up
from .made_up import ADAPTIVE, CALIBRATION, LABELS, REPORT, clip, model, prediction, timeline, top, video_features
from .pages import Page

NASTY = "<script>alert('&')</script>\"><img src=x onerror=alert(1)>"


def page(outcome: Outcome, name: str = "clips/run.mp4", of: ModelInfo | None = None) -> Page:
    made = Page("".join(video_page(section(name, outcome, of))))
    if not isinstance(outcome, NotAVideo):
        made.check()
    return made


def test_a_prediction_has_every_part() -> None:
    found = page(prediction(), of=model())
    assert found.all("h1") != []
    for part in (
        "clips/run.mp4",
        "archery",
        "50.0%",
        "compressed-v1",
        "r2plus1d_18",
        "r-17",
        "the fastest that passes",
    ):
        assert part in found.text, part
    assert len(found.pictures()) == 4
    assert len(found.all("rect", "window")) == 20
    assert len(found.all("rect", "selected")) == len(found.all("path", "chosen")) == 4
    assert len(found.all("rect", "clip")) == 4
    assert "best class of 4 of 4 clips" in found.text
    assert "1.8 s" in found.text  # decode and infer


def test_top_three_of_each_clip_and_all_of_the_video() -> None:
    found = page(prediction())
    assert len(found.all("td", "class")) == 4 * 3
    assert sum(data == "5.0%" for _, data in found.texts) == 1  # the fifth class, of the video only


def test_a_clip_of_fewer_classes_leaves_its_places_empty() -> None:
    found = page(prediction(clips=(ClipPrediction(clip=clip(0), top=top(0.9)), ClipPrediction(clip=clip(1), top=()))))
    assert len(found.all("td", "class")) == 1
    assert "best class of 1 of 1 clip" in found.text


def test_salience_of_a_clip_is_that_of_its_window() -> None:
    """Clips begin every 2.5 s and last 0.5 s, as windows do: these are windows 0, 5, 10 and 15."""
    scores = [str(i % 7) for i in (0, 5, 10, 15)]
    cells = [data for tag, data in page(prediction()).texts if tag == "td" and data in scores]
    assert cells[-4:] == scores
    other = prediction(clips=(ClipPrediction(clip=clip(0, start_seconds=0.2), top=top()),))
    assert "salience" not in "".join(d for tag, d in page(other).texts[-60:] if tag == "th")


def test_calibrated_scores_stand_beside_plain_ones() -> None:
    found = page(prediction(top=top(calibrated=True)), of=model(calibration=CALIBRATION))
    assert "37.5%" in found.text
    assert "50.0%, 37.5% calibrated" in found.text
    assert "(ECE) 8.1% before and 2.3% after" in found.text
    assert "200 held-out videos" in found.text
    assert len(found.all("span", "calibrated")) == 5


def test_a_calibration_of_another_protocol_is_said_and_not_used() -> None:
    found = page(prediction(), of=model(calibration={**CALIBRATION, "protocol": "ten-clip"}))
    assert "holds for the protocol ten-clip, and this answer came by salient-clips" in found.text
    assert not found.all("span", "calibrated")


def test_an_adaptive_prediction_has_no_calibrated_scores() -> None:
    found = page(prediction(adaptive=ADAPTIVE), of=model(calibration=CALIBRATION))
    assert "salient-clips, as a whole: not for adaptive predictions" in found.text


@pytest.mark.parametrize("values", [{}, {"temperature": "hot"}, [1], None, {**CALIBRATION, "num_videos": None}])
def test_a_calibration_that_is_none(values: object) -> None:
    assert "holds no calibration" in page(prediction(), of=model(calibration=values)).text


def test_of_another_model_nothing_is_said() -> None:
    other = replace(model(calibration=CALIBRATION), version="3")
    found = page(prediction(), of=other)
    assert "r2plus1d_18" not in found.text
    assert "ECE" not in found.text


def test_a_flat_timeline_is_said() -> None:
    points = tuple(replace(p, score=0.25) for p in timeline().points)
    found = page(prediction(timeline=timeline(points=points, flat=True)))
    assert facts.FLAT in found.text
    assert "20 windows, flat" in found.text
    assert {a["height"] for a in found.all("rect", "window")} == {"43"}
    assert facts.FLAT not in page(prediction()).text


def test_notes_of_the_scorer_and_warnings_of_the_decoder() -> None:
    report = replace(REPORT, frames_substituted=2, frames_corrupt=1, warnings=("cut off: 7 bytes are missing",))
    found = page(prediction(timeline=timeline(notes=("it has no sound",)), report=report))
    assert "Salience: it has no sound" in found.text
    assert "Decoder: cut off: 7 bytes are missing" in found.text
    silent = DecodeReport(frames_requested=9, frames_decoded=7, frames_substituted=2, warnings=())
    assert "2 of 9 frames could not be decoded" in page(prediction(report=silent)).text


def test_how_far_an_adaptive_prediction_went() -> None:
    found = page(prediction(adaptive=ADAPTIVE))
    assert "4 of 10 planned clips ran, then the stopping rule ended it" in found.text
    assert "at most 5.0% of them, with confidence 95.0%" in found.text
    assert "let none of them out" in page(prediction(adaptive=replace(ADAPTIVE, settled=False, clips_used=10))).text


def test_a_server_without_pictures_or_timeline() -> None:
    found = page(prediction(thumbnails=(), timeline=None, clips=()))
    assert facts.NO_PICTURES in found.text
    assert facts.NO_TIMELINE in found.text
    assert not found.all("img")
    assert not found.all("rect", "window")
    assert not found.all("details")


def test_a_looped_clip_is_said() -> None:
    clips = (ClipPrediction(clip=clip(0, end_seconds=11.0, looped=True), top=top()),)
    assert "1 of 1 clip reached beyond the end" in page(prediction(clips=clips)).text


def test_an_answer_from_the_cache_took_no_time() -> None:
    provenance = replace(made_up.PROVENANCE, timings={"decode": 0.0, "infer": 0.0})
    assert "from its cache" in page(prediction(provenance=provenance)).text


def test_features_have_a_matrix_and_the_nearest_clip_of_each() -> None:
    found = page(video_features())
    assert len(found.all("rect", "cosine")) == 9
    assert "3 vectors of 3 numbers" in found.text
    assert "0.994" in found.text  # the first two clips
    assert "Classes of the video" not in found.text


def test_a_single_clip_has_none_to_be_compared_with() -> None:
    found = page(video_features(features=made_up.features((1, 2, 3))))
    assert not found.all("rect", "cosine")
    assert "A single clip has none" in found.text


def test_an_error_stands_in_the_place_of_the_answer() -> None:
    made = section("a.txt", NotAVideo("a.txt: not a video that tenclip reads", source="a.txt"))
    assert made.failed
    assert made.verdict == "NotAVideo: not a video that tenclip reads"
    assert NASTY in page(NotAVideo(f"{NASTY}: no", source=NASTY)).text


def test_long_timelines_are_drawn_in_bars_of_several_windows() -> None:
    found = page(prediction(timeline=timeline(3 * MAX_BARS)))
    assert len(found.all("rect", "window")) == MAX_BARS
    assert "A bar is the highest of up to 3 windows" in found.text
    longer = page(prediction(timeline=timeline(MAX_ROWS + 5)))
    assert len(longer.all("table", "windows")) == 1
    assert f"{(MAX_ROWS + 5) // 5} windows that were chosen" in longer.text


def test_every_window_is_in_the_table() -> None:
    found = page(prediction())
    rows = [data for tag, data in found.texts if tag == "td" and data == "chosen"]
    assert len(rows) == 4
    assert "Salience of every window, of 20, as a table" in found.text


def test_names_labels_and_words_of_a_server_are_escaped() -> None:
    nasty = prediction(
        top=top(0.9, 0.1, labels=(NASTY, NASTY)),
        clips=(ClipPrediction(clip=clip(0, end_seconds=9.0), top=top(0.5, labels=(NASTY,))),),
        timeline=timeline(scorer=NASTY, notes=(NASTY,)),
        report=replace(REPORT, warnings=(NASTY,)),
        video=replace(made_up.VIDEO, codec=NASTY),
        provenance=replace(made_up.PROVENANCE, runtime=NASTY, protocol=NASTY, request_id=NASTY, timings={NASTY: 1.0}),
    )
    found = page(nasty, NASTY, replace(model(), architecture=NASTY))
    assert found.text.count(NASTY) >= 10
    assert "<script" not in found.source
    assert "<img src=x" not in found.source


@pytest.mark.parametrize("name", ["run\udcff.mp4", "a\x00b\x1b[31m.mp4", "evil\u202egpj.exe", "two\nlines", ""])
def test_names_that_no_page_can_hold(name: str) -> None:
    found = page(prediction(), name)
    found.source.encode("utf-8")
    assert not set("\x00\x1b\u202e\udcff") & set(found.source)


@settings(max_examples=30, deadline=None)
@given(
    scores=st.lists(st.floats(width=32), max_size=40),
    starts=st.lists(st.floats(-1e6, 1e6, width=32), min_size=40, max_size=40),
    seconds=st.lists(st.floats(0, 1e5), max_size=8),
    duration=st.floats(0, 1e6),
)
def test_numbers_of_any_kind_make_a_page(
    scores: list[float], starts: list[float], seconds: list[float], duration: float
) -> None:
    """A server may be wrong, or another program."""
    points = tuple(
        replace(timeline().points[0], start_seconds=a, end_seconds=a + 1, score=s)
        for a, s in zip(starts, scores, strict=False)
    )
    pictures = tuple(replace(made_up.thumbnails(1)[0], seconds=s) for s in sorted(set(seconds)))
    answer = prediction(
        timeline=timeline(points=points),
        thumbnails=pictures,
        video=replace(made_up.VIDEO, duration_seconds=duration),
    )
    found = page(answer)
    assert len(found.all("rect", "window")) == len(points)
    assert len(found.pictures()) == len(pictures)


@pytest.mark.parametrize("score", [math.nan, math.inf, -1.0, 2.0])
def test_scores_that_are_no_probabilities(score: float) -> None:
    widths = [a["style"] or "" for a in page(prediction(top=top(score))).all("span", "plain")]
    assert all(0 <= float(w.removeprefix("width:").removesuffix("%")) <= 100 for w in widths)


@pytest.mark.parametrize("change", [{"features": made_up.features((1, 0), (0, 1))}, {"clips": ()}])
def test_what_else_a_prediction_may_have(change: dict[str, Any]) -> None:
    found = page(prediction(**change))
    assert ("Features of its clips" in found.text) == ("features" in change)
    assert LABELS[0] in found.text
