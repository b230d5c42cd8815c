"""`tenclip index` and `tenclip similar` with a real server and real videos, as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tenclip_client.cli.exits import SOME_FAILED
from tenclip_client.cli.main import main
from tests.tenclip_index.made_up import clustered, contents, write

from ..tenclip_serving.api.test_similar import write_index
from ..tenclip_serving.helpers import ServerProcess, make_bundle, make_video, running_server

Tenclip = Callable[..., tuple[int, str, str]]
VIDEOS = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos with labels, and an index of made-up features that the server has."""
    folder = tmp_path_factory.mktemp("similar")
    bundle = make_bundle(folder / "models")
    make_bundle(folder / "models", "tiny", "2")
    write_index(folder / "served", bundle)
    (folder / "videos").mkdir()
    for i, name in enumerate(VIDEOS):
        make_video(folder / "videos" / f"{name}.mp4", num_frames=40 + 10 * i, seconds_of_motion=0.3 * i)
    lines = "".join(f"videos/{name}.mp4,{label}\n" for name, label in zip(VIDEOS, "xyxy", strict=True))
    (folder / "labels.csv").write_text(f"path,label\n{lines}")
    return folder


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[ServerProcess]:
    with running_server(root / "models", "--index", str(root / "served")) as running:
        yield running


@pytest.fixture
def tenclip(
    server: ServerProcess, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Tenclip:
    """The command in the folder; gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(root)
    monkeypatch.setenv("TENCLIP_SERVER", server.address)

    def run(*argv: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(argv)
        printed = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, printed.out, printed.err

    return run


@pytest.fixture
def index(tenclip: Tenclip, root: Path) -> str:
    """An index of the videos, built by the commands that the page shows."""
    if not (root / "index").exists():
        code, _, err = tenclip("features", "videos", "--out", "f.parquet", "--model", "tiny:1", "--num-clips", "3")
        assert code == 0, err
        code, out, err = tenclip("index", "build", "f.parquet", "--out", "index", "--labels", "labels.csv")
        assert code == 0, err
        assert "index: 12 clips of 4 videos, 6 numbers each" in out
        assert "features of tiny version 1 (weights " in out
        assert "clips chosen by custom: 3 uniform clips" in out
        assert "exact-fp16: every clip is looked at" in out
        assert "recall@10 1.0000 against an exact search of float32 vectors (12 clips of 12)" in out
    return "index"


def answer(ran: tuple[int, str, str]) -> list[dict[str, Any]]:
    assert ran[0] == 0, ran[2]
    found: list[dict[str, Any]] = json.loads(ran[1])
    return found


def test_every_way_to_ask_is_the_same(tenclip: Tenclip, index: str) -> None:
    options = ("--json", "--top-k", "12")
    (of_video,) = answer(tenclip("similar", "videos/b.mp4", "--index", f"./{index}", "--num-clips", "3", *options))
    (of_query,) = answer(tenclip("index", "query", index, "videos/b.mp4", "--num-clips", "3", *options))
    assert of_query["neighbours"] == of_video["neighbours"]
    first = of_video["neighbours"][0]
    assert (first["video"], first["labels"], first["source"]) == ("videos/b.mp4", ["y"], "f")
    assert first["score"] == pytest.approx(1, abs=1e-3)
    assert first["query_clip"]["start_seconds"] == first["start_seconds"]
    of_table = answer(tenclip("index", "query", index, "f.parquet", *options))
    assert [a["video"] for a in of_table] == [f"videos/{v}.mp4" for v in VIDEOS]
    assert of_table[1]["neighbours"] == of_video["neighbours"]
    (of_id,) = answer(tenclip("index", "query", index, "--id", "videos/b.mp4", *options))
    assert {n["video"] for n in of_id["neighbours"]} == {"videos/a.mp4", "videos/c.mp4", "videos/d.mp4"}
    others = [n for n in of_video["neighbours"] if n["video"] != "videos/b.mp4"]
    assert [n["score"] for n in of_id["neighbours"]] == pytest.approx([n["score"] for n in others], abs=1e-3)
    (left,) = answer(
        tenclip("similar", "videos/b.mp4", "--index", index, "--other-videos", "--num-clips", "3", *options)
    )
    assert left["neighbours"] == others


def test_tables(tenclip: Tenclip, index: str) -> None:
    code, out, _ = tenclip("index", "query", index, "--id", "videos/a.mp4", "--by-video", "--label", "y")
    assert code == 0
    assert out.startswith("videos/a.mp4\n  of tiny version 1, in index index\n")
    lines = out.splitlines()
    assert lines[2].split() == ["cosine", "video", "seconds", "labels", "source", "nearest", "to"]
    assert {line.split()[1] for line in lines[3:]} == {"videos/b.mp4", "videos/d.mp4"}
    code, out, _ = tenclip("index", "query", index, "--id", "videos/a.mp4", "--label", "x", "--by-video", "--at", "0")
    assert "videos/c.mp4" in out
    code, out, _ = tenclip("index", "duplicates", index, "--threshold", "-1", "--by-video", "--limit", "2")
    assert "6 pairs of cosine -1 or more among 12 clips, the first 2 shown" in out
    code, out, _ = tenclip("index", "duplicates", index, "--threshold", "-1", "--json")
    values = json.loads(out)
    assert values["found"] == len(values["pairs"]) == 12 * 9 // 2
    assert tenclip("index", "info", index, "--verify")[1].startswith("index: 12 clips of 4 videos")
    assert json.loads(tenclip("index", "info", index, "--json")[1])["rows"] == 12


def test_the_index_of_the_server(tenclip: Tenclip, root: Path) -> None:
    for options in ((), ("--index", "served")):
        (found,) = answer(tenclip("similar", "videos/a.mp4", "--json", "--top-k", "3", "--label", "b", *options))
        assert found["index"]["name"] == "served"
        assert [n["labels"] for n in found["neighbours"]] == [["b"]] * 3
    code, out, err = tenclip("similar", "videos/a.mp4", "labels.csv", "videos/gone.mp4", "--index", "served")
    assert code == SOME_FAILED
    assert out.count("in index served") == 4, "a.mp4, and b to d of the list, each once"
    assert "VideoNotFound" in out
    assert err == "1 of 5 videos failed\n"
    code, _, err = tenclip("similar", "videos/a.mp4", "--index", "serve")
    assert (code, err) == (1, "Error: no index 'serve'; this server has served\n")


def test_adding(tenclip: Tenclip, index: str, root: Path) -> None:
    assert tenclip("index", "build", "f.parquet", "--out", "grows")[0] == 0
    make_video(root / "e.mp4", num_frames=60, seconds_of_motion=0.2)
    code, _, err = tenclip(
        "features", "videos", "e.mp4", "--out", "more.parquet", "--model", "tiny:1", "--num-clips", "3"
    )
    assert code == 0, err
    code, out, _ = tenclip("index", "add", "grows", "more.parquet", "--source", "camera")
    assert out.startswith("3 clips added, 12 were there already\ngrows: 15 clips of 5 videos")
    assert "sources: f (12), camera (3)" in out
    assert json.loads(tenclip("index", "add", "grows", "more.parquet", "--json")[1])["added"] == 0


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (("index", "query", "index"), 2, "name a video or a table of features"),
        (("index", "query", "index", "a.mp4", "--id", "b"), 2, "name a video or a table of features"),
        (("index", "query", "index", "a.mp4", "--at", "3"), 2, "--at is a moment of the video of --id"),
        (
            ("index", "query", "index", "--id", "z.mp4"),
            1,
            "the index has no video 'z.mp4'; videos are named as videos/",
        ),
        (("index", "query", "index", "gone.parquet"), 1, "gone.parquet: no such file"),
        (("index", "query", "nothing", "--id", "z.mp4"), 1, "nothing: no index here; `tenclip index build"),
        (("similar", "videos/a.mp4", "--index", "./nothing"), 1, "nothing: no index here; `tenclip index build"),
        (("similar", "videos/a.mp4", "--index", "index", "--model", "tiny:2"), 1, "of tiny version 2"),
        (("similar", "videos/a.mp4", "--index", "index", "--label", "z"), 1, "has the label 'z'; it has x, y"),
        (("similar", "videos/a.mp4", "--adaptive"), 1, "--adaptive settles classes"),
        (("index", "build", "f.parquet", "--out", "index"), 1, "index: is an index already"),
        (("index", "build", "f.parquet", "--out", "new", "--source", " "), 1, "--source must not be empty"),
        (("index", "build", "labels.csv", "--out", "new"), 1, "labels.csv: cannot be read as Parquet"),
        (("index", "build", "other.parquet", "--out", "new"), 1, "no column 'video'; it has id"),
        (("index", "add", "index", "moves.parquet"), 1, "and the index index is of tiny version 1"),
        (("index", "duplicates", "index", "--threshold", "98"), 2, "less than or equal to 1"),
    ],
)
def test_what_is_refused(tenclip: Tenclip, index: str, root: Path, argv: tuple[str, ...], code: int, says: str) -> None:
    pq.write_table(pa.table({"id": [1]}), root / "other.parquet")
    write(root / "moves.parquet", clustered(20, 6))
    before = contents(root / index)
    ended, _, err = tenclip(*argv)
    assert ended == code
    assert says in " ".join(err.replace("│", "").split())
    assert not (root / "new").exists()
    assert contents(root / index) == before
