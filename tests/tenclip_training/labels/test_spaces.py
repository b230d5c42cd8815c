"""Label spaces: actions, verbs, nouns and their products."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tenclip_api.errors import DatasetError
from tenclip_training.labels.hashtags import pair_hashtags
from tenclip_training.labels.spaces import (
    action_space,
    noun_space,
    read_seeds,
    read_space,
    verb_noun_space,
    verb_space,
    write_space,
)


def test_actions_keep_their_names_and_report_caps() -> None:
    space = action_space(["catching a fish", "yoga"], max_tags=10)
    assert space.labels == ("catching a fish", "yoga")
    assert space.tags_of("yoga") == ("yoga",)
    assert len(space.tags_of("catching a fish")) == 10
    assert space.capped == {"catching a fish": 16}
    assert space.max_tags == 10


def test_verbs_of_one_lemma_are_one_label() -> None:
    space = verb_space(["burning", "burn", "pick-up"])
    assert space.labels == ("burn", "pick up")
    assert space.merged == {"burn": ("burning", "burn")}
    assert space.tags_of("burn") == ("burn", "burning")


def test_synonyms_share_a_label_or_are_labels() -> None:
    shared = noun_space(["tench, Tinca tinca"])
    assert shared.labels == ("tench",)
    assert set(shared.tags_of("tench")) == {"tench", "tenches", "tincatinca", "tincatincas"}
    own = noun_space(["tench, Tinca tinca"], split_synonyms=True)
    assert own.labels == ("tench", "tinca tinca")


def test_a_product_has_every_pair() -> None:
    verbs, nouns = ["burning", "cutting", "fish"], ["candle", "bread", "fish", "ice cream"]
    space = verb_noun_space(verbs, nouns)
    assert len(space.labels) == 12
    assert space.labels[0] == "burn candle"
    assert space.tags_of("burn candle") == pair_hashtags("burning", "candle").tags
    assert space.tags_of("fish fish") == pair_hashtags("fish", "fish").tags
    assert space.tags_of("cut ice cream") == pair_hashtags("cut", "ice cream").tags
    pairs = list(zip(*space.hashtags.to_pydict().values(), strict=True))
    assert len(pairs) == len(set(pairs))


def test_a_space_survives_its_file(tmp_path: Path) -> None:
    space = verb_noun_space(["burning"], ["candle", "bread"])
    write_space(space, tmp_path / "space.parquet")
    read = read_space(tmp_path / "space.parquet")
    assert read.labels == space.labels
    assert all(read.tags_of(label) == space.tags_of(label) for label in space.labels)
    assert pq.read_table(tmp_path / "space.parquet").column_names == ["label", "tag"]


@pytest.mark.parametrize(
    ("kind", "labels"),
    [("action", ("burning candles", "yoga")), ("verb", ("burn candles", "yoga")), ("noun", ("burning candle", "yoga"))],
)
def test_files_of_class_names(tmp_path: Path, kind: str, labels: tuple[str, ...]) -> None:
    (tmp_path / "labels.txt").write_text("burning candles\nyoga\n")
    assert read_space(tmp_path / "labels.txt", kind=kind).labels == labels  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "says"),
    [("yoga\n!!\n", r"labels.txt: label 2 is '!!'"), ("", "holds no labels"), ("yoga\nyoga\n", "yoga")],
)
def test_bad_files_of_class_names(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(DatasetError, match=says):
        read_seeds(tmp_path / "labels.txt")


def test_a_label_that_is_too_long_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("yoga\n" + "many " * 60)
    with pytest.raises(DatasetError, match=r"labels\.txt: label .* has 60 words"):
        read_space(tmp_path / "labels.txt")


@pytest.mark.parametrize("seeds", [["run", ""], ["run", ","]])
def test_an_empty_verb_is_an_error(seeds: list[str]) -> None:
    with pytest.raises(DatasetError, match="is empty"):
        verb_space(seeds)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"label": ["a"], "tags": ["b"]}, "no column 'tag'"),
        ({"label": pa.array([], pa.string()), "tag": pa.array([], pa.string())}, "has no labels"),
        ({"label": ["a", None], "tag": ["b", "c"]}, "a row has no label or no tag"),
    ],
)
def test_bad_label_spaces(tmp_path: Path, table: dict[str, list[str]], says: str) -> None:
    pq.write_table(pa.table(table), tmp_path / "space.parquet")
    with pytest.raises(DatasetError, match=says):
        read_space(tmp_path / "space.parquet")


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_space(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DatasetError, match=r"bad\.parquet: cannot be read as Parquet"):
        read_space(tmp_path / "bad.parquet")
