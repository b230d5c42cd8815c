"""`tenclip omni untrimmed` as users run it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.tenclip_training.commands.curate.helpers import Run, error_of, json_of
from tests.tenclip_training.omni.colors import write_table, write_video


@pytest.fixture
def teachers(color_teacher: Path, color_clip_teacher: Path) -> dict[str, Path]:
    return {"frames": color_teacher, "clips": color_clip_teacher}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("raw")


@pytest.fixture(scope="module")
def raw(folder: Path) -> Path:
    """Videos of a second a colour: one of four, one without its class, one of two seconds, one all its class, text."""
    shown = {
        "a": ("red", ["blue", "red", "green", "red"]),
        "none": ("red", ["blue", "green", "blue"]),
        "short": ("green", ["green", "red"]),
        "all": ("green", ["green"] * 3),
        "text": ("green", []),
    }
    rows = []
    for name, (label, colors) in shown.items():
        if colors:
            write_video(folder / f"{name}.mp4", colors)
        else:
            (folder / f"{name}.mp4").write_text("no video")
        start, end = ("1", "2") if name == "a" else ("", "")
        rows.append({"path": f"{name}.mp4", "label": label, "start": start, "end": end})
    return write_table(folder / "raw.csv", rows)


def chosen(run: Run, raw: Path, teacher: Path, *more: object) -> tuple[Any, list[dict[str, Any]]]:
    out = raw.parent / "out.parquet"
    arguments = ("omni", "untrimmed", raw, "--teacher", teacher, "--out", out, "--workers", 1, "--threads", 1)
    found = json_of(run(*arguments, "--scores", raw.parent / "scores", *more, "--json"))
    return found, list(pq.read_table(out).to_pylist())


def test_snippets_for_networks_of_segments(run: Run, raw: Path, teachers: dict[str, Path]) -> None:
    found, rows = chosen(run, raw, teachers["frames"])
    by_name = {r["path"]: r for r in rows}
    assert set(by_name) == {"a.mp4", "all.mp4"}
    assert by_name["a.mp4"]["positive_seconds"] == "1.000000;3.000000"
    assert by_name["a.mp4"]["negative_seconds"] == "0.000000;2.000000"
    assert by_name["a.mp4"]["kind"] == "snippets"
    assert by_name["a.mp4"]["label"] == ["red"]
    assert "start_seconds" not in by_name["a.mp4"], "the times are of the whole video"
    assert (found["looked_at"], found["positive"], found["rows"]) == (4 + 3 + 2 + 3, 2 + 3, 2)
    assert found["filled_with_positives"] == 1
    assert found["skipped"] == {"no positive frame": 1, "too short": 1}
    assert [f["reason"] for f in found["failures"]] == ["NOT_A_VIDEO"]


def test_the_rest_of_a_video_is_without_its_annotated_part(run: Run, raw: Path, teachers: dict[str, Path]) -> None:
    _, rows = chosen(run, raw, teachers["frames"], "--use", "rest")
    assert {r["path"]: r["positive_seconds"] for r in rows}["a.mp4"] == "3.000000"
    found, rows = chosen(run, raw, teachers["clips"], "--piece-seconds", 1, "--use", "rest", "--threshold", 0.6)
    assert [(r["start_seconds"], r["end_seconds"]) for r in rows if r["path"] == "a.mp4"] == [(3.0, 4.0)]
    assert found["form"] == "clips"


def test_clips_for_networks_of_clips(run: Run, raw: Path, teachers: dict[str, Path]) -> None:
    found, rows = chosen(run, raw, teachers["clips"], "--piece-seconds", 1, "--threshold", 0.6)
    assert found["form"] == "clips", "of a teacher of clips"
    parts = [(r["path"], r["start_seconds"], r["end_seconds"], r["kind"]) for r in rows]
    assert parts[:2] == [("a.mp4", 1.0, 2.0, "clip"), ("a.mp4", 3.0, 4.0, "clip")]
    assert [p[:2] for p in parts[2:]] == [("short.mp4", 0.0), *(("all.mp4", s) for s in (0.0, 1.0, 2.0))]
    assert (found["looked_at"], found["positive"]) == (12, 6)
    assert found["skipped"] == {"low confidence": 6}
    # Pieces of 3 seconds: of the first video one of 1 second is left, which is too short where 2 are asked for.
    found, _ = chosen(run, raw, teachers["clips"], "--piece-seconds", 3, "--shortest", 2, "--threshold", 0)
    assert found["skipped"] == {"too short": 1}
    assert found["rows"] == 4


def test_without_labels_the_teacher_says_what_it_is(
    run: Run, raw: Path, teachers: dict[str, Path], tmp_path: Path
) -> None:
    write_video(tmp_path / "videos" / "x.mp4", ["green"] * 3)
    found, rows = chosen(run, tmp_path / "videos", teachers["frames"], "--unlabelled", "--rate", 2)
    assert [r["label"] for r in rows] == [["green"]]
    assert found["looked_at"] == 6
    code, printed, _ = run(
        *("omni", "untrimmed", tmp_path / "videos", "--teacher", teachers["frames"], "--unlabelled"),
        *("--out", tmp_path / "o.csv", "--workers", 1, "--form", "clips", "--piece-seconds", 2, "--threads", 1),
    )
    assert code == 0
    assert "2 pieces of 2 s of 1 videos, 2 of them positive (from 0.5 on); 2 rows" in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--form", "snippets", "--teacher", "clips"], "snippets are single frames, and"),
        (["--teacher", "frames", "--threshold", "1"], "nothing is left of 5 videos"),
        (["--teacher", "frames", "--form", "frames"], "--form 'frames' is not one of snippets, clips"),
        (["--teacher", "frames", "--use", "all"], "--use 'all' is not one of"),
        (["--teacher", "frames", "--unlabelled", "--score-of", "own"], "needs the labels"),
    ],
)
def test_what_cannot_be(run: Run, raw: Path, teachers: dict[str, Path], arguments: list[str], says: str) -> None:
    given = [str(teachers[a]) if a in ("clips", "frames") and arguments[i - 1] == "--teacher" else a
             for i, a in enumerate(arguments)]  # fmt: skip
    out = raw.parent / "o.csv"
    more = ("--workers", 1, "--threads", 1, "--scores", raw.parent / "scores")
    assert says in error_of(run("omni", "untrimmed", raw, "--out", out, *more, *given))
    assert not out.exists()


def test_images_have_no_length_and_unknown_labels_are_named(run: Run, raw: Path, teachers: dict[str, Path]) -> None:
    other = raw.parent / "violet.csv"
    other.write_text(raw.read_text().replace("none.mp4,red", "none.mp4,violet"))
    arguments = ("--teacher", teachers["frames"], "--out", raw.parent / "o.csv", "--workers", 1, "--threads", 1)
    assert "does not know the labels violet" in error_of(run("omni", "untrimmed", other, *arguments))
    (raw.parent / "list.csv").write_text("path,label\nx.png,red\n")
    (raw.parent / "x.png").write_bytes(b"x")
    message = error_of(run("omni", "untrimmed", raw.parent / "list.csv", *arguments))
    assert "1 of the files are images, which have no length" in message
