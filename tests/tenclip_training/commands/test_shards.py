"""`tenclip shards`: its sub-commands as users run them."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_client.cli.main import main
from tenclip_data.manifest import read_manifest
from tenclip_training.data.shards.read import read_videos
from tests.tenclip_training.commands.helpers import QUICK

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`tenclip ARGUMENTS`; gives (exit code, stdout, stderr)."""

    def invoke(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([*map(str, arguments)])
        printed = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, printed.out, printed.err

    return invoke


def json_of(result: tuple[int, str, str]) -> Any:
    assert result[0] == 0, result[2]
    return json.loads(result[1])


def test_from_videos_to_a_model(run: Run, validated_videos: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    written = json_of(run("shards", "write", validated_videos, "--out", shards, "--videos-per-shard", 5, "--json"))
    assert written["splits"] == {"train": 12, "val": 4}
    assert (written["shards"], written["shards_kept"], written["samples"], written["labels"]) == (4, 0, 16, 2)
    assert written["bytes"] == sum(p.stat().st_size for p in shards.glob("*.tar"))
    assert (written["failed"], written["failures"]) == (0, [])
    again = run("shards", "write", validated_videos, "--out", shards, "--videos-per-shard", 5)
    assert again[0] == 0
    assert again[1].startswith(f"{shards}: 16 samples (12 train, 4 val) in 4 shards, 4 of them there already, ")
    assert run("shards", "check", shards) == (0, "4 shards and 16 samples are as their index says\n", "")
    result = json_of(run("train", shards, "--out", tmp_path / "run", *QUICK, "--epochs", "1", "--json"))
    assert result["history"][0]["train_clips"] == 12
    scores = json_of(run("evaluate", tmp_path / "run" / "last.pt", shards, "--split", "val", "--json"))
    assert (scores["videos_asked"], scores["videos_decoded"]) == (4, 4)


def test_a_part_of_the_splits_by_size(run: Run, validated_videos: Path, tmp_path: Path) -> None:
    arguments = ("shards", "write", validated_videos, "--out", tmp_path / "out")
    written = json_of(run(*arguments, "--split", "train", "--shard-size", "0.02", "--json"))
    assert written["splits"] == {"train": 12}
    assert written["shards"] > 2
    code, _, error = run(*arguments, "--shard-size", 1, "--videos-per-shard", 2)
    assert (code, error) == (1, "Error: give --shard-size or --videos-per-shard, not both\n")
    assert "no video in split 'nope'" in run(*arguments, "--split", "nope")[2]


def test_the_order_is_by_seed_or_the_manifests(run: Run, validated_videos: Path, tmp_path: Path) -> None:
    def names(*options: object) -> list[str]:
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        json_of(run("shards", "write", validated_videos, "--out", out, *options, "--json"))
        with tarfile.open(out / "train-000000.tar") as tar:
            return [json.load(tar.extractfile(m))["name"] for m in tar if m.name.endswith(".json")]  # type: ignore[arg-type]

    assert names() == names("--seed", 0) != names("--seed", 1)
    assert names("--in-order") == sorted(names(), key=names("--in-order").index)


def test_videos_that_are_not_there(run: Run, validated_videos: Path, tmp_path: Path) -> None:
    lines = validated_videos.read_text().splitlines()
    (tmp_path / "v").symlink_to(validated_videos.parent)
    manifest = tmp_path / "v" / "more.csv"
    row = lines[1].replace(lines[1].split(",")[0], "gone.mp4")
    manifest.write_text("\n".join([*lines, row]))
    code, _, error = run("shards", "write", manifest, "--out", tmp_path / "out")
    assert code == 1
    assert "no such file" in error
    code, out, error = run("shards", "write", manifest, "--out", tmp_path / "out", "--keep-missing")
    assert code == 0
    assert "16 samples" in out
    assert "1 could not be read and are left out" in error
    assert "gone.mp4: no such file (VIDEO_NOT_FOUND)" in error
    manifest.unlink()


def test_what_a_check_finds(run: Run, shards_copy: Path) -> None:
    path = shards_copy / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:3000])
    code, out, _ = run("shards", "check", shards_copy)
    assert code == 1
    first, last = out.splitlines()
    assert first.startswith(f"{path}: is cut off: it has 3,000 of ")
    assert first.endswith("; 12 of 12 samples are lost")
    assert last == "1 of 2 shards are not as their index says; 12 of 16 samples are lost"
    code, out, _ = run("shards", "check", shards_copy, "--json")
    values = json.loads(out)
    assert code == 1
    assert (values["samples_lost"], values["shards_damaged"]) == (12, 1)
    assert len(values["findings"][0]["lost"]) == 12
    code, _, error = run("shards", "check", shards_copy.parent)
    assert code == 1
    assert "no index of shards is there; make one with: tenclip shards index" in error


@pytest.fixture
def shards_copy(run: Run, validated_videos: Path, tmp_path: Path) -> Path:
    json_of(run("shards", "write", validated_videos, "--out", tmp_path / "set" / "shards", "--json"))
    return tmp_path / "set" / "shards"


def test_an_index_for_tars_without_one(run: Run, shards_copy: Path, tmp_path: Path) -> None:
    (shards_copy / "index.parquet").unlink()
    made = json_of(run("shards", "index", shards_copy, "--json"))
    assert (made["samples"], made["labels"], made["splits"]) == (16, 2, {"train": 12, "val": 4})
    assert run("shards", "check", shards_copy)[0] == 0
    code, _, error = run("shards", "index", shards_copy)
    assert (code, error) == (
        1,
        f"Error: {shards_copy / 'index.parquet'}: is there already; remove it to make it anew\n",
    )
    code, out, _ = run("shards", "index", shards_copy, "--out", tmp_path / "elsewhere", "--split", "test")
    assert code == 0
    assert out == f"{tmp_path / 'elsewhere' / 'index.parquet'}: 16 samples (16 test) of 2 labels in 2 tars\n"
    shutil.rmtree(shards_copy)
    assert "no such shard" in run("evaluate", "none.pt", tmp_path / "elsewhere")[2]


def test_heads(run: Run, tmp_path: Path) -> None:
    rows = [f"{i}.mp4,{v},{n},train" for i, (v, n) in enumerate([("cut", "egg"), ("mix", "egg"), ("cut", "ham")])]
    for i in range(3):
        (tmp_path / f"{i}.mp4").write_bytes(bytes([i]))
    (tmp_path / "l.csv").write_text("\n".join(["path,verb,noun,split", *rows]))
    assert run("shards", "write", tmp_path / "l.csv", "--out", tmp_path / "s", "--heads", "verb, noun")[0] == 0
    heads = read_videos(tmp_path / "s", heads=("noun", "verb"))
    assert heads.labels == ("noun:egg", "noun:ham", "verb:cut", "verb:mix")
    assert {s.name: set(s.labels) for s in heads.samples}["1.mp4"] == {"verb:mix", "noun:egg"}
    expected = read_manifest(tmp_path / "l.csv", heads=("noun", "verb"))
    assert {s.name: set(heads.targets(s)) for s in heads.samples} == {
        s.name: set(expected.targets(s)) for s in expected.samples
    }
    with pytest.raises(
        InvalidRequest, match="the shards have no heads verb, scene; give --heads verb,scene to tenclip"
    ):
        read_videos(tmp_path / "s", heads=("verb", "scene"))


def test_shards_are_not_written_of_shards(run: Run, shards_copy: Path, tmp_path: Path) -> None:
    code, _, error = run("shards", "write", shards_copy, "--out", tmp_path / "again")
    assert code == 1
    assert "holds shards already; name the list or the folder of the videos" in error


def test_urls_need_a_folder_for_the_index(run: Run) -> None:
    code, _, error = run("shards", "index", "http://127.0.0.1:1/a-{0..3}.tar")
    assert code == 1
    assert "give --out, the folder of the index" in error
