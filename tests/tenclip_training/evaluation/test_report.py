from __future__ import annotations

import csv
import json
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet
import pytest

from tenclip_api.errors import DatasetError, InvalidRequest
from tenclip_data.manifest import Manifest
from tenclip_training.data.failures import Failure
from tenclip_training.evaluation.counting import summarise
from tenclip_training.evaluation.report import heat_map, page, write_evaluation
from tenclip_training.evaluation.results import EvaluationResult, VideoScore
from tenclip_training.evaluation.scoring import Scoring
from tenclip_training.heads import Heads

FAILURE = Failure(video="gone.mp4", reason="NOT_A_VIDEO", message="gone.mp4: <not> a video")


def made(
    labels: tuple[str, ...] = ("run", "jump", "a & b"), *, several: bool = False, scoring: Scoring | None = None
) -> EvaluationResult:
    """Six videos of the first two classes; v3 is taken for the third with certainty."""
    rows = []
    rng = np.random.default_rng(0)
    for i in range(6):
        scores = rng.dirichlet(np.ones(len(labels))).astype(np.float32)
        if i == 3:
            scores = np.full(len(labels), 0.01 / (len(labels) - 1), np.float32)
            scores[2] = 0.99
        targets = (0, 1) if several else (i % 2,)
        rows.append(
            VideoScore(
                index=i, name=f"v{i}.mp4", targets=targets, clips=scores[None], video=scores, seconds=((0.0, 1.0),)
            )
        )
    manifest = Manifest(source=Path("m.csv"), samples=(), labels=labels)
    return summarise([*rows, FAILURE], manifest, split="test", protocol="ten-clip", scoring=scoring)


class Tags(HTMLParser):
    """The text of a page, and whether its tags close."""

    void = ("meta", "img", "line", "circle", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_folder_gets_every_file(tmp_path: Path) -> None:
    result = made()
    written = write_evaluation(tmp_path / "new" / "out", result, title="best.pt on m.csv")
    assert {p.name for p in written} == {
        *("report.html", "confusion.csv", "confusion.png", "scores.parquet", "evaluation.json")
    }
    assert {p.name for p in (tmp_path / "new" / "out").iterdir()} == {p.name for p in written}, "no drafts are left"
    rows = list(csv.reader((tmp_path / "new" / "out" / "confusion.csv").read_text().splitlines()))
    assert rows[0] == ["true", "run", "jump", "a & b"]
    assert result.confusion is not None
    assert [[int(c) for c in row[1:]] for row in rows[1:]] == [list(row) for row in result.confusion]
    values = json.loads((tmp_path / "new" / "out" / "evaluation.json").read_text())
    assert values["title"] == "best.pt on m.csv"
    assert values["calibration"]["items"] == 6


def test_scores_of_each_video(tmp_path: Path) -> None:
    result = made()
    write_evaluation(tmp_path / "scores.parquet", result, title="t")
    table = pyarrow.parquet.read_table(tmp_path / "scores.parquet")
    assert json.loads(table.schema.metadata[b"tenclip.labels"]) == ["run", "jump", "a & b"]
    assert table.schema.metadata[b"tenclip.protocol"] == b"ten-clip"
    rows = table.to_pylist()
    assert [r["video"] for r in rows] == [s.name for s in result.scores]
    np.testing.assert_array_equal([r["scores"] for r in rows], np.stack([s.video for s in result.scores]))
    assert sum(r["correct"] for r in rows) == result.video_top1.correct
    assert (rows[3]["labels"], rows[3]["predicted"], rows[3]["correct"], rows[3]["clips"]) == (
        ["jump"],
        "a & b",
        False,
        1,
    )


def test_scores_with_heads(tmp_path: Path) -> None:
    heads = Heads.of(["verb:a", "verb:b", "noun:x", "noun:y"])
    assert heads is not None
    scores = np.array([0.9, 0.1, 0.2, 0.8], np.float32)
    rows = [
        VideoScore(index=i, name=f"v{i}", targets=t, clips=scores[None], video=scores, seconds=((0.0, 1.0),))
        for i, t in enumerate([(0, 3), (0, 2)])
    ]
    manifest = Manifest(source=Path("m.csv"), samples=(), labels=heads.labels)
    result = summarise(rows, manifest, split="", protocol="ten-clip", scoring=Scoring(heads=heads))
    write_evaluation(tmp_path / "s.parquet", result, title="t")
    found = pyarrow.parquet.read_table(tmp_path / "s.parquet").to_pylist()
    assert [r["predicted"] for r in found] == [["verb:a", "noun:y"]] * 2
    assert [r["correct"] for r in found] == [True, False]


def test_the_page() -> None:
    tags = Tags(page(made(), title="best.pt on <m.csv>"))
    assert "best.pt on <m.csv>" in tags.text
    text = " ".join(tags.text.split())
    assert "7 videos asked for, 6 decoded, 1 skipped" in text
    assert "gone.mp4: <not> a video (NOT_A_VIDEO)" in text
    assert "Expected calibration error" in text
    assert "over 6 videos, by their best class" in text
    assert "mean over 2 classes and 6 videos; 1 classes without a video are left out" in text
    mistakes = text[text.index("Most confident mistakes") :]
    assert "v3.mp4jumpa & b0.9900" in mistakes
    assert mistakes.index("v3.mp4") == min(mistakes.index(f"v{i}.mp4") for i in range(6) if f"v{i}.mp4" in mistakes)


def test_classes_are_sorted_by_accuracy() -> None:
    result = made()
    text = page(result, title="t")
    worst, best = sorted((0, 1), key=lambda k: result.per_class[k].value)
    places = [text.index(f'<td class="name">{result.labels[k]}</td>') for k in (worst, best)]
    assert places[0] <= places[1]
    assert text.index('<td class="name">a &amp; b</td>') > max(places), "a class without a video comes last"


def test_many_classes_are_a_picture() -> None:
    result = made(tuple(f"c{i:03}" for i in range(60)))
    text = page(result, title="t")
    assert "data:image/png;base64," in text
    Tags(text)
    assert result.confusion is not None
    picture = cv2.imdecode(np.frombuffer(heat_map(np.array(result.confusion)), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    scale = len(picture) // 60
    cells = picture[scale // 2 :: scale, scale // 2 :: scale]
    assert (cells[5] == 225).all(), "a class without a video is grey"
    assert cells[1, 2].tolist() != [255, 255, 255], "v3 was taken for the third class"


def test_several_labels_have_no_confusion(tmp_path: Path) -> None:
    result = made(several=True, scoring=Scoring(activation="sigmoid"))
    written = write_evaluation(tmp_path / "out", result, title="t")
    assert {p.name for p in written} == {"report.html", "scores.parquet", "evaluation.json"}
    assert "over 18 pairs of a video and a class" in " ".join(
        Tags((tmp_path / "out/report.html").read_text()).text.split()
    )
    with pytest.raises(InvalidRequest, match=r"c\.csv: videos with several labels have no confusion matrix"):
        write_evaluation(tmp_path / "c.csv", result, title="t")
    assert not (tmp_path / "c.csv").exists()


def test_softmax_of_several_labels_is_not_calibrated() -> None:
    text = page(made(several=True), title="t")
    assert "these scores are no probabilities of the labels" in Tags(text).text


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"x\.xlsx: an evaluation is written as \.html, \.csv"):
        write_evaluation(tmp_path / "x.xlsx", made(), title="t")
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot be written"):
        write_evaluation(tmp_path / "file" / "out", made(), title="t")
    with pytest.raises(DatasetError, match="cannot be written"):
        write_evaluation(tmp_path / "file", made(), title="t")


def test_names_that_are_no_text(tmp_path: Path) -> None:
    scores = np.array([0.9, 0.1], np.float32)
    row = VideoScore(
        index=0, name="caf\udce9.mp4", targets=(1,), clips=scores[None], video=scores, seconds=((0.0, 1.0),)
    )
    manifest = Manifest(source=Path("m.csv"), samples=(), labels=("a", "b"))
    result = summarise([row], manifest, split="", protocol="ten-clip")
    write_evaluation(tmp_path / "out", result, title="t")
    assert pyarrow.parquet.read_table(tmp_path / "out/scores.parquet")["video"].to_pylist() == ["caf\\xe9.mp4"]
    assert "caf" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
