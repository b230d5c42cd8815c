"""`--report` of a real server with real videos, and of a server that knows no pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tenclip_client import Client
from tenclip_client.cli.exits import SOME_FAILED
from tenclip_client.cli.main import main
from tenclip_client.report import facts
from tenclip_client.report.writer import page_name
from tenclip_video.bundle import ScoreCalibration

from ...tenclip_serving.helpers import LABELS, RULE, Sampler, ServerProcess, make_bundle, make_video, running_server
from ..servicer import CLIPS
from .pages import Page

Run = Callable[..., tuple[int, str, str]]
PICTURES = 12
CALIBRATION = ScoreCalibration(temperature=3.0, protocol="salient-clips", num_videos=50, ece_before=0.2, ece_after=0.1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    models = tmp_path_factory.mktemp("models")
    make_bundle(models)
    with running_server(models, "--cache-mb", "8") as running:
        yield running


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in an empty folder; gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run_(server: str, *argv: str) -> tuple[int, str, str]:
        monkeypatch.setenv("TENCLIP_SERVER", server)
        with pytest.raises(SystemExit) as caught:
            main(argv)
        printed = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, printed.out, printed.err

    return run_


def page(path: Path | str) -> Page:
    made = Page(Path(path).read_text(encoding="utf-8"))
    made.check()
    return made


@pytest.mark.parametrize("name", ["archery.avi", "untrimmed.mp4"])
def test_the_report_of_a_real_video(server: ServerProcess, run: Run, data_dir: Path, name: str) -> None:
    video = data_dir / "clips" / name
    arguments: dict[str, Any] = {"clips": "salient", "num_clips": 4, "clip_scores": True}
    with Client(server.address) as client:
        expected = client.predict(video, **arguments)
    code, _, err = run(
        server.address, "predict", str(video), "--selection", "salient", "--num-clips", "4", "--report", "out.html"
    )
    assert (code, err) == (0, "report: out.html (1 of 1 videos)\n")
    found = page("out.html")
    assert len(found.pictures()) == PICTURES
    for attributes, picture in zip(found.all("img"), found.pictures(), strict=True):
        assert (attributes["width"], attributes["height"]) == tuple(map(str, picture.size))
        assert abs(picture.width / picture.height - expected.video.width / expected.video.height) < 0.05
    assert expected.timeline is not None
    assert len(found.all("rect", "window")) == len(expected.timeline.points)
    assert len(found.all("rect", "selected")) == len(found.all("rect", "clip")) == len(expected.clips) == 4
    for score in expected.top:
        assert score.label in found.text
        assert f"{score.score:.1%}" in found.text
    assert len(found.all("td", "class")) == 4 * min(3, len(LABELS))
    assert ("with sound" if expected.video.has_audio else "without sound") in found.text


def test_a_learned_sampler_and_calibrated_scores(run: Run, tmp_path: Path) -> None:
    make_bundle(tmp_path / "models", sampler=Sampler(stopping=RULE), calibration=CALIBRATION)
    make_video(tmp_path / "a.mp4")
    with running_server(tmp_path / "models") as server:
        with Client(server.address) as client:
            expected = client.predict(tmp_path / "a.mp4", protocol="salient-clips")
            adaptive = client.predict(tmp_path / "a.mp4", clips="salient", adaptive=True).adaptive
        run(server.address, "predict", "a.mp4", "--protocol", "salient-clips", "--report", "out.html")
        run(server.address, "predict", "a.mp4", "--selection", "salient", "--adaptive", "--report", "adaptive.html")
    found = page("out.html")
    assert expected.timeline is not None
    assert expected.timeline.scorer in found.text
    assert "expected calibration error (ECE) 20.0% before and 10.0% after" in found.text
    for score in expected.top:
        assert score.calibrated is not None
        assert f"{score.calibrated:.1%}" in found.text
    assert adaptive is not None
    found = page("adaptive.html")
    assert f"{adaptive.clips_used} of {adaptive.clips_planned} planned clips ran" in found.text
    assert len(found.all("rect", "clip")) == adaptive.clips_used


def test_a_video_in_which_nothing_happens_says_so(server: ServerProcess, run: Run, tmp_path: Path) -> None:
    make_video(tmp_path / "still.mp4", num_frames=2)
    run(server.address, "predict", "still.mp4", "--report", "out.html")
    found = page("out.html")
    assert facts.FLAT in found.text
    assert "began again there" in found.text
    assert len(found.pictures()) == 2


def test_hostile_names_and_labels_from_end_to_end(run: Run, tmp_path: Path) -> None:
    nasty = "<img src=x onerror=alert(1)>"
    make_bundle(tmp_path / "models", labels=(f"{nasty}&", "<script>", '"green"', "moving"))
    name = f'{nasty.replace("/", "")}".mp4'
    make_video(tmp_path / name)
    with running_server(tmp_path / "models") as running:
        code, _, _ = run(running.address, "predict", name, "--report", "out.html")
    assert code == 0
    found = page("out.html")
    assert found.text.count(name) >= 2
    assert f"{nasty}&" in found.text
    assert len(found.all("img")) == PICTURES
    assert not found.all("script")


def test_printed_answers_have_no_pictures(server: ServerProcess, run: Run, tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4")
    _, out, _ = run(server.address, "predict", "a.mp4", "--json", "--report", "out.html")
    answer = json.loads(out)[0]["prediction"]
    assert answer["thumbnails"] == []
    assert answer["timeline"] is not None
    assert len(page("out.html").pictures()) == PICTURES


def test_several_videos_of_which_one_fails(server: ServerProcess, run: Run, tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4")
    make_video(tmp_path / "b.mp4", num_frames=80, seconds_of_motion=0.5)
    (tmp_path / "c.mp4").write_text("no video")
    code, _, err = run(server.address, "predict", "a.mp4", "b.mp4", "c.mp4", "--report", "pages")
    assert code == SOME_FAILED
    assert "report: pages (3 of 3 videos)" in err
    index = Page(Path("pages/index.html").read_text(encoding="utf-8"))
    assert [a["href"] for a in index.all("a")] == [page_name(n) for n in ("a.mp4", "b.mp4", "c.mp4")]
    assert "1 of which failed" in index.text
    assert len(page(f"pages/{page_name('a.mp4')}").pictures()) == PICTURES
    assert "NotAVideo" in Path("pages", page_name("c.mp4")).read_text(encoding="utf-8")
    run(server.address, "predict", "a.mp4", "b.mp4", "--stream", "--report", "both.html")
    assert len(page("both.html").pictures()) == 2 * PICTURES


def test_large_videos_are_uploaded_and_pictured_too(server: ServerProcess, tmp_path: Path) -> None:
    """In pieces, as a stream, and the same again from the cache."""
    data = make_video(tmp_path / "a.mp4").read_bytes() + bytes(9 << 20)  # beyond one message
    with Client(server.address) as client:
        uploaded = client.predict(data, thumbnails=5)
        *updates, last = client.predict_stream(data, thumbnails=5)
        features = client.extract_features(data, thumbnails=5)
        fewer = client.predict(data, thumbnails=3)
        none = client.predict(data)
    assert len(uploaded.thumbnails) == 5
    assert len(updates) == 10
    assert last.thumbnails == features.thumbnails == uploaded.thumbnails  # type: ignore[union-attr]
    assert len(fewer.thumbnails) == 3
    assert none.thumbnails == ()


def test_features_of_videos(server: ServerProcess, run: Run, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    make_video(tmp_path / "videos/a.mp4")
    make_video(tmp_path / "videos/b.mp4", num_frames=60)
    code, _, _ = run(server.address, "features", "videos", "--out", "f.parquet", "--report", "f.html")
    assert code == 0
    found = page("f.html")
    assert len(found.pictures()) == 2 * PICTURES
    assert len(found.all("rect", "cosine")) == 2 * 10 * 10
    assert "Features of 2 videos" in found.text
    # Nothing is left to do: the page stays.
    before = Path("f.html").read_bytes()
    code, _, err = run(server.address, "features", "videos", "--out", "f.parquet", "--report", "f.html")
    assert (code, "report: none: nothing was asked for" in err) == (0, True)
    assert Path("f.html").read_bytes() == before


def test_a_server_that_knows_no_pictures(target: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"video")
    code, _, _ = run(target, "predict", "a.mp4", "--report", "out.html")
    assert code == 0
    found = page("out.html")
    assert facts.NO_PICTURES in found.text
    assert len(found.all("rect", "window")) == 20
    assert len(found.all("rect", "clip")) == CLIPS
    assert "Decoder: 2 frames were lost" in found.text


def test_a_place_that_cannot_be_written_is_said_before_anything_is_asked(target: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"video")
    (tmp_path / "file").touch()
    code, out, err = run(target, "predict", "a.mp4", "--report", "file")
    assert (code, out) == (1, "")
    assert "a file is there; name a page (NAME.html) or a folder" in err
