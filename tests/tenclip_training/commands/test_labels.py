"""`tenclip labels`: its sub-commands as users run them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tenclip_client.cli.main import main
from tests.tenclip_training.labels.tables import rows_of, write_csv, write_parquet

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`tenclip labels ARGUMENTS`; gives (exit code, stdout, stderr)."""

    def invoke(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["labels", *map(str, arguments)])
        printed = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, printed.out, printed.err

    return invoke


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """100 videos: 60 burn candles, 50 of them also catch fish, 1 does yoga."""
    tags = ["#BurnCandle #fun" if i < 60 else "#nothing" for i in range(100)]
    tags = [t + " #catchfish" if i < 50 else t for i, t in enumerate(tags)]
    tags[99] += " #yoga"
    return write_csv(tmp_path / "videos.csv", [{"path": f"{i}.mp4", "tags": t} for i, t in enumerate(tags)])


@pytest.fixture
def names(tmp_path: Path) -> Path:
    (tmp_path / "labels.txt").write_text("burning candles\ncatching a fish\nyoga\njudo\n")
    return tmp_path / "labels.txt"


def json_of(result: tuple[int, str, str]) -> Any:
    assert result[0] == 0, result[2]
    return json.loads(result[1])


def test_hashtags_of_a_label(run: Run) -> None:
    tags = json_of(run("hashtags", "catching a fish", "--json"))
    assert len(tags) == 16
    assert {"catchingafish", "catchfish", "fishcatching"} <= set(tags)
    code, out, err = run("hashtags", "catching a fish")
    assert (code, err) == (0, "")
    assert out.split() == [f"#{tag}" for tag in tags]


def test_hashtags_of_a_verb_and_a_noun(run: Run) -> None:
    assert json_of(run("hashtags", "--verb", "burning", "--noun", "candle", "--json")) == [
        *("burncandle", "burncandles", "burningcandle", "burningcandles"),
        *("candleburn", "candleburning", "candlesburn", "candlesburning"),
    ]
    assert json_of(run("hashtags", "--verb", "burning", "--json")) == ["burn", "burning"]
    assert json_of(run("hashtags", "--noun", "candle", "--json")) == ["candle", "candles"]


def test_a_cap_is_said_on_standard_error(run: Run) -> None:
    code, out, err = run("hashtags", "one two three four five six seven eight", "--max-hashtags", "10", "--json")
    assert code == 0
    assert len(json.loads(out)) == 10
    assert "10 hashtags of " in err
    assert "--max-hashtags" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([""], "label '' is empty"),
        (["--verb", "!", "--noun", "candle"], "label '!' is empty"),
        ([], "needs a label, or --verb, --noun or both"),
        (["yoga", "--verb", "burn"], "needs a label, or --verb, --noun or both"),
    ],
)
def test_bad_labels(run: Run, arguments: list[str], says: str) -> None:
    code, out, err = run("hashtags", *arguments)
    assert (code, out) == (1, "")
    assert says in err
    assert err.count("\n") == 1


def test_match_says_what_it_did(run: Run, videos: Path, names: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    code, text, err = run("match", videos, names, "--tags", "tags", "--out", out)
    assert code == 0, err
    assert "60 of 100 videos have one of 2 labels (50 have several)" in text
    assert "dropped 1 labels with fewer than 50 videos: yoga (1)" in text
    assert "no video has a hashtag of 1 labels: judo" in text
    assert len(rows_of(out)) == 60


def test_match_as_json(run: Run, videos: Path, names: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    report = json_of(run("match", videos, names, "--tags", "tags", "--out", out, "--min-videos", "1", "--json"))
    assert report["videos_per_label"] == {"burning candles": 60, "catching a fish": 50, "yoga": 1}
    assert (report["videos"], report["dropped"], report["unmatched"]) == (61, {}, ["judo"])
    code, text, _ = run("match", videos, names, "--tags", "tags", "--out", out, "--min-videos", "1")
    assert code == 0
    assert "1 labels have one video: yoga" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["videos.csv", "labels.txt", "--tags", "hashtags"], "no column 'hashtags'; it has path, tags"),
        (["none.csv", "labels.txt", "--tags", "tags"], "none.csv: No such file"),
        (["videos.csv", "none.txt", "--tags", "tags"], "none.txt: No such file"),
        (["videos.csv", "other.txt", "--tags", "tags"], "none of its 100 rows has a hashtag of the 1 labels"),
        (["videos.csv", "empty.txt", "--tags", "tags"], "empty.txt: holds no labels"),
        (["videos.csv", "labels.txt", "--tags", "tags", "--min-videos", "70"], "no label has 70 videos"),
        (["videos.csv", "labels.txt", "--tags", "tags", "--check-files"], "the file of every video that matches"),
    ],
)
@pytest.mark.usefixtures("videos", "names")
def test_bad_matches(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.txt").write_text("judo\n")
    (tmp_path / "empty.txt").write_text("")
    code, out, err = run("match", *arguments, "--out", "out.parquet")
    assert (code, out) == (1, "")
    assert says in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("*out.parquet*"))


def test_from_verbs_and_nouns_to_a_subset(run: Run, videos: Path, tmp_path: Path) -> None:
    (tmp_path / "verbs.txt").write_text("burning\nburn\ncatch\n")
    (tmp_path / "nouns.txt").write_text("candles\nfish\n")
    space, matched, part = (tmp_path / f"{name}.parquet" for name in ("space", "matched", "part"))
    made = json_of(
        run("space", "--verbs", tmp_path / "verbs.txt", "--nouns", tmp_path / "nouns.txt", "--out", space, "--json")
    )
    assert (made["labels"], made["merged"]) == (4, {"burn": ["burning", "burn"]})
    report = json_of(run("match", videos, space, "--tags", "tags", "--out", matched, "--json"))
    assert report["videos_per_label"] == {"burn candle": 60, "catch fish": 50}
    assert set(report["unmatched"]) == {"burn fish", "catch candle"}

    subset = json_of(run("subset", matched, "--target", write_target(tmp_path), "--out", part, "--json"))
    assert subset["chosen"] == {"catch fish": 50}
    assert all(row["labels"] == ["catch fish"] for row in rows_of(part))

    page = tmp_path / "report.html"
    code, text, _ = run("report", matched, part, "--target", tmp_path / "target.txt", "--out", page)
    assert code == 0
    assert "matched has 50.0% of the labels of" in text
    assert page.read_text().count("<svg") == 2
    found = json_of(run("report", matched, part, "--json"))
    assert [source["labels"] for source in found["sources"]] == [2, 1]
    assert found["out"] is None


def write_target(folder: Path) -> Path:
    (folder / "target.txt").write_text("fish catching\nrunning\n")
    return folder / "target.txt"


@pytest.mark.parametrize(
    ("option", "labels"),
    [("--actions", ["burning candles", "yoga"]), ("--verbs", ["burn candles", "yoga"]), ("--nouns", None)],
)
def test_spaces_of_one_kind(run: Run, tmp_path: Path, option: str, labels: list[str] | None) -> None:
    (tmp_path / "seeds.txt").write_text("burning candles\nyoga\n")
    out = tmp_path / "space.parquet"
    code, text, _ = run("space", option, tmp_path / "seeds.txt", "--out", out)
    assert code == 0
    assert "2 labels" in text
    assert sorted({row["label"] for row in rows_of(out)}) == (labels or ["burning candle", "yoga"])


def test_a_cap_of_a_space_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "seeds.txt").write_text("catching a fish\n")
    options = ("--actions", tmp_path / "seeds.txt", "--out", tmp_path / "space.parquet", "--max-hashtags", "3")
    assert "1 labels have more than 3 hashtags, and keep so many: catching a fish (16)" in run("space", *options)[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["space", "--out", "s.parquet"], "needs --actions, or --verbs, --nouns or both"),
        (["space", "--actions", "a", "--verbs", "b", "--out", "s.parquet"], "needs --actions, or"),
        (["subset", "t.parquet", "--out", "s.parquet"], "needs --num-labels, --target, or both"),
        (["subset", "t.parquet", "--num-labels", "9", "--out", "s.parquet"], "9 labels asked for; there are 2"),
        (["report", "t.parquet", "--column", "x"], "no column 'x'; it has labels"),
        (["report", "t.parquet", "--out", "r.pdf"], "r.pdf: a report is written as .html"),
        (["report", "none.parquet"], "none.parquet: No such file"),
    ],
)
def test_bad_requests(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_parquet(tmp_path / "t.parquet", labels=[["a"], ["b"]])
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert says in err
    assert not (tmp_path / "s.parquet").exists()


def test_a_subset_in_words(run: Run, tmp_path: Path) -> None:
    table = write_parquet(tmp_path / "t.parquet", id=[1, 2, 3], labels=[["a"], ["b"], ["a", "b"]])
    code, out, _ = run("subset", table, "--num-labels", "1", "--num-videos", "1", "--out", tmp_path / "s.parquet")
    assert code == 0
    assert "1 of 2 labels, 1 videos of 2 that have one of them" in out


def test_label_spaces_need_no_torch(tmp_path: Path, videos: Path, names: Path) -> None:
    program = (
        "import sys\n"
        "from tenclip_client.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as end:\n"
        "    loaded = {'torch', 'av', 'cv2', 'sklearn'} & set(sys.modules)\n"
        "    sys.exit(end.code or (f'loaded {loaded}' if loaded else 0))\n"
    )
    arguments = ["labels", "match", str(videos), str(names), "--tags", "tags", "--out", str(tmp_path / "out.parquet")]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
