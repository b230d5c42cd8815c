"""What people see."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_client import EmptyVideo, FailedModel, ModelList, ServerError, TimelinePoint
from tenclip_client import _results as results
from tenclip_client.cli import render
from tenclip_features.rows import VideoFailure

from .servicer import model, prediction


def console(width: int = 100, encoding: str = "utf-8") -> Console:
    return Console(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding), width=width, highlight=False)


def text(of: Console) -> str:
    file = of.file
    file.seek(0)
    return "\n".join(line.rstrip() for line in file.read().split("\n"))


def everything() -> pb.PredictResponse:
    request = pb.PredictRequest(include_clip_scores=True, include_features=True, include_timeline=True)
    return prediction(request, b"abc", "2")


def test_prediction() -> None:
    out = console()
    render.print_prediction(out, "clips/a [1].mp4", results.prediction(everything()))
    lines = text(out).splitlines()
    assert lines[0] == "clips/a [1].mp4"
    assert lines[1] == "  320x240, 25 fps (variable), 10.0 s, 250 frames, mpeg4 in avi, rotated by 90"
    assert lines[2].split()[:2] == ["1", "bowling"]
    assert lines[2].endswith("%")
    assert sum("eating [hot] cake" in line for line in lines) >= 1
    assert "  note: 2 frames were lost" in lines
    assert lines[-1] == ""
    assert lines[-2] == "  actions:2, ten-clip, fake, 1 of 3 clips looped, 0.75 s on the server"
    rows = [line for line in lines if " - " in line]
    assert [r.split()[0] for r in rows] == ["0", "1", "2"]
    assert "1.10 - 1.74" in rows[1]


@pytest.mark.parametrize("width", [30, 60, 80, 200])
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    out = console(width)
    render.print_prediction(out, "a.mp4", results.prediction(everything()))
    render.print_models(out, ModelList(models=(results.model_info(model("2", full=False)),), failed=()))
    render.print_model(out, results.model_info(model("2", full=True)))
    assert max(len(line) for line in text(out).splitlines()) <= width


def test_terminals_without_unicode() -> None:
    out = console(encoding="ascii")
    render.print_prediction(out, "a.mp4", results.prediction(everything()))
    assert "#" in text(out)


def test_substituted_frames_are_told_even_without_a_warning() -> None:
    message = everything()
    del message.report.warnings[:]
    out = console()
    render.print_prediction(out, "a.mp4", results.prediction(message))
    assert "note: 2 of 48 frames could not be decoded" in text(out)


def test_error_in_the_place_of_a_prediction() -> None:
    out = console()
    render.print_error(out, "a.mp4", EmptyVideo("a.mp4: is empty", source="a.mp4"))
    fault = ServerError("a fault")
    fault.request_id = "r-9"
    render.print_error(out, "b.mp4", fault)
    assert text(out).splitlines() == [
        "a.mp4",
        "  EmptyVideo: is empty",
        "",
        "b.mp4",
        "  ServerError: a fault (request r-9 in the server's log)",
        "",
    ]


def test_a_failure_that_a_models_state_tells_is_not_told_again() -> None:
    old, good = model("1", full=False), model("2", full=False)
    old.state = "READY (an older copy; what is on disk now failed to load: SHA-256)"
    failed = tuple(
        FailedModel(name=name, version=version, error=f"why {name}{version}")
        for name, version in (("actions", "1"), ("actions", "3"), ("other", ""), ("actions", ""))
    )
    out = console()
    render.print_models(out, ModelList(models=(results.model_info(old), results.model_info(good)), failed=failed))
    assert [line for line in text(out).splitlines() if line.startswith("not loaded")] == [
        "not loaded: actions:3: why actions3",
        "not loaded: other: why other",
    ]


def test_models() -> None:
    infos = tuple(results.model_info(model(v, full=False)) for v in ("1", "2"))
    out = console()
    render.print_models(out, ModelList(models=infos, failed=()))
    render.print_models(out, ModelList(models=infos[:1], failed=()))
    render.print_models(out, ModelList(models=(), failed=()))
    lines = text(out).splitlines()
    assert lines[1].split()[:3] == ["actions:1", "(default)", "r2plus1d_10"]
    assert lines[4].split()[:2] == ["actions:1", "r2plus1d_10"]
    assert lines[5] == "The server holds no models."


def test_model_whose_class_names_nobody_published() -> None:
    message = model("2", full=False)
    message.label_source = "index"
    out = console()
    render.print_model(out, results.model_info(message))
    assert "6 (no published names; numbers stand for them)" in text(out)


def test_failures() -> None:
    out = console()
    out.print(render.failures_table([VideoFailure("a [1].mp4", "EMPTY_VIDEO", "a [1].mp4: is empty")]))
    assert text(out).split() == ["a", "[1].mp4", "EMPTY_VIDEO", "is", "empty"]


@given(share=st.floats(-1, 2), width=st.integers(1, 60), ascii_only=st.booleans())
def test_bars(share: float, width: int, ascii_only: bool) -> None:
    drawn = render.bar(share, width, ascii_only=ascii_only)
    assert len(drawn) <= width
    assert bool(drawn) == (share > 0)
    assert not ascii_only or drawn.isascii()
    if share >= 1:
        assert len(drawn) == width


def test_bars_in_eighths() -> None:
    assert [render.bar(s, 2) for s in (0, 0.5, 0.75, 1 / 16, 1e-9)] == ["", "█", "█▌", "▏", "▏"]
    assert render.bar(float("nan"), 4) == ""


def points(*scores: float, selected: tuple[int, ...] = ()) -> list[TimelinePoint]:
    return [
        TimelinePoint(start_seconds=float(i), end_seconds=i + 1.0, score=s, selected=i in selected)
        for i, s in enumerate(scores)
    ]


def test_sparkline() -> None:
    assert render.sparkline(points(0, 7, 3.5, selected=(1,)), 3) == ("▁█▅", " ^ ")
    assert render.sparkline(points(0, 7, 3.5, selected=(1,)), 6) == ("▁▁██▅▅", "  ^^  ")
    # More windows than columns: the best of each column stays visible.
    assert render.sparkline(points(0, 7, 0, 0, 0, 0, selected=(1,)), 2) == ("█▁", "^ ")
    assert render.sparkline(points(2, 2), 2) == ("▅▅", "  ")
    assert render.sparkline(points(0, float("nan"), 1), 3, ascii_only=True) == ("_ @", "   ")


@given(scores=st.lists(st.floats(width=32), min_size=1, max_size=50), width=st.integers(1, 80))
def test_sparkline_fills_its_width(scores: list[float], width: int) -> None:
    levels, marks = render.sparkline(points(*scores), width)
    assert len(levels) == len(marks) == width


def test_a_model_without_a_classifier() -> None:
    message = model("2", full=True)
    message.num_classes, message.label_source = 0, "none"
    del message.labels[:]
    out = console(width=120)
    render.print_models(out, ModelList(models=(results.model_info(message),), failed=()))
    render.print_model(out, results.model_info(message))
    assert " none " in text(out)
    assert "none: the model has no classifier and answers features only" in text(out)
