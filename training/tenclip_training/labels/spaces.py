"""Label spaces: which labels there are, and which hashtags stand for each (IG-65M section 3.1).

Three kinds: actions ("catching a fish"), verbs or nouns by themselves, and products of verbs and nouns.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from tenclip_api.errors import DatasetError
from tenclip_data.atomic import replacing
from tenclip_data.labels import read_labels
from tenclip_training.labels.forms import noun_forms, noun_lemma, verb_forms, verb_lemma
from tenclip_training.labels.hashtags import DEFAULT_MAX_TAGS, relevant_hashtags
from tenclip_training.labels.tables import PARQUET_SUFFIXES, connect
from tenclip_training.labels.words import split_words

Kind = Literal["action", "verb", "noun"]


@dataclass(frozen=True, kw_only=True)
class LabelSpace:
    """Labels and their hashtags.

    hashtags: columns label (int32, index into `labels`) and tag (string, canonical, without `#`).
    capped: label -> number of its hashtags before the cap, for labels that have more than the cap allows.
    merged: label -> the words of the seed list that have it as their canonical form, where that is more than one.
    max_tags: the cap; None for kinds that need none.
    """

    labels: tuple[str, ...]
    hashtags: pa.Table = field(repr=False)
    max_tags: int | None = None
    capped: dict[str, int] = field(default_factory=dict)
    merged: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def tags_of(self, label: str) -> tuple[str, ...]:
        """The hashtags of one label, sorted."""
        mask = pa.compute.equal(self.hashtags["label"], self.labels.index(label))
        return tuple(sorted(self.hashtags.filter(mask)["tag"].to_pylist()))


def action_space(labels: Iterable[str], *, max_tags: int = DEFAULT_MAX_TAGS) -> LabelSpace:
    """A label for each seed label, with its relevant hashtags. Raises DatasetError for a label without words."""
    found = [relevant_hashtags(label, max_tags=max_tags) for label in labels]
    return LabelSpace(
        labels=tuple(h.label for h in found),
        hashtags=_table([h.tags for h in found]),
        max_tags=max_tags,
        capped={h.label: h.possible for h in found if h.capped},
    )


def verb_space(verbs: Iterable[str], *, split_synonyms: bool = False) -> LabelSpace:
    """A label for each verb, named by its lemma ("burning" and "burn" are one), with its forms as hashtags.

    A seed may hold synonyms with commas between ("lift, raise"): they share the label of the first, or with
    `split_synonyms` each is a label. Raises DatasetError for a label without words.
    """
    return _space_of(_canonical(verbs, verb_lemma, verb_forms, split_synonyms))


def noun_space(nouns: Iterable[str], *, split_synonyms: bool = False) -> LabelSpace:
    """A label for each noun, named by its singular, with singular and plural as hashtags.

    Synonyms as in `verb_space`. IG-65M counts its 1,428 tags of 1,000 ImageNet synsets as 1,428 labels: that is
    `split_synonyms=True`. Raises DatasetError for a label without words.
    """
    return _space_of(_canonical(nouns, noun_lemma, noun_forms, split_synonyms))


def verb_noun_space(verbs: Iterable[str], nouns: Iterable[str], *, split_synonyms: bool = False) -> LabelSpace:
    """A label for every verb with every noun ("burn candle"); hashtags are all their forms in both orders (A.1).

    The product is made in DuckDB: 438 verbs and 1,428 nouns are 625,464 labels and about 5 million hashtags.
    Raises DatasetError for a label without words.
    """
    first = _canonical(verbs, verb_lemma, verb_forms, split_synonyms)
    second = _canonical(nouns, noun_lemma, noun_forms, split_synonyms)
    num_nouns = len(second.forms)
    with connect() as db:
        db.register("verbs", _table(list(first.forms.values())))
        db.register("nouns", _table(list(second.forms.values())))
        hashtags = db.sql(
            f"""
            WITH pairs AS (
                SELECT (v.label * {num_nouns} + n.label)::INTEGER AS label, v.tag AS verb, n.tag AS noun
                FROM verbs v CROSS JOIN nouns n
            )
            SELECT DISTINCT label, unnest([verb || noun, noun || verb]) AS tag FROM pairs ORDER BY ALL
            """
        ).to_arrow_table()
    return LabelSpace(
        labels=tuple(f"{verb} {noun}" for verb in first.forms for noun in second.forms),
        hashtags=hashtags,
        merged={**first.merged, **second.merged},
    )


def read_space(path: Path | str, *, kind: Kind = "action", max_tags: int = DEFAULT_MAX_TAGS) -> LabelSpace:
    """A label space that `write_space` wrote (Parquet), or a file of class names as `read_labels` reads it.

    kind: what the class names are; a Parquet file needs none. Raises DatasetError, and FileNotFoundError.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(2, "No such file or directory", str(path))
    if path.suffix.lower() in PARQUET_SUFFIXES:
        return _read_parquet(path)
    names = read_seeds(path)
    with _naming(path):
        if kind == "action":
            return action_space(names, max_tags=max_tags)
        return verb_space(names) if kind == "verb" else noun_space(names)


def read_seeds(path: Path | str) -> tuple[str, ...]:
    """Seed labels from a file of class names. Raises DatasetError that names the file and a label without words."""
    names = read_labels(path)
    for number, name in enumerate(names, start=1):
        if not split_words(name):
            raise DatasetError(f"{path}: label {number} is {name!r}: a label needs a letter or a digit")
    return names


def write_space(space: LabelSpace, out: Path | str) -> None:
    """Write a Parquet file with columns label and tag, a row for each hashtag of each label. Raises OSError."""
    labels = pa.DictionaryArray.from_arrays(
        space.hashtags["label"].combine_chunks().cast(pa.int32()), pa.array(space.labels, pa.string())
    )
    table = pa.table({"label": labels, "tag": space.hashtags["tag"]})
    with replacing(out) as file:
        pyarrow.parquet.write_table(table, file, compression="zstd")


@dataclass(frozen=True)
class _Canonical:
    """Canonical word -> its forms, and the seeds that became one word."""

    forms: dict[str, tuple[str, ...]]
    merged: dict[str, tuple[str, ...]]


def _canonical(
    seeds: Iterable[str],
    canonical: Callable[[Sequence[str]], str],
    forms_of: Callable[[Sequence[str]], tuple[str, ...]],
    split_synonyms: bool,
) -> _Canonical:
    forms: dict[str, list[str]] = {}
    sources: dict[str, list[str]] = {}
    for seed in seeds:
        synonyms = [words for part in seed.split(",") if (words := split_words(part))]
        if not synonyms:
            raise DatasetError(f"label {seed!r} is empty: a label needs a letter or a digit")
        for group in [[words] for words in synonyms] if split_synonyms else [synonyms]:
            name = canonical(group[0])
            forms.setdefault(name, []).extend(form for words in group for form in forms_of(words))
            sources.setdefault(name, []).append(seed)
    return _Canonical(
        forms={name: tuple(dict.fromkeys(found)) for name, found in forms.items()},
        merged={name: tuple(s) for name, s in sources.items() if len(s) > 1},
    )


def _space_of(found: _Canonical) -> LabelSpace:
    return LabelSpace(labels=tuple(found.forms), hashtags=_table(list(found.forms.values())), merged=found.merged)


def _table(tags: Sequence[Sequence[str]]) -> pa.Table:
    labels = [i for i, of_label in enumerate(tags) for _ in of_label]
    flat = [tag for of_label in tags for tag in of_label]
    return pa.table({"label": pa.array(labels, pa.int32()), "tag": pa.array(flat, pa.string())})


def _read_parquet(path: Path) -> LabelSpace:
    try:
        with path.open("rb") as raw, pyarrow.parquet.ParquetFile(raw) as file:
            missing = [name for name in ("label", "tag") if name not in file.schema_arrow.names]
            if missing:
                raise DatasetError(
                    f"{path}: no column {missing[0]!r}; a label space has columns label and tag, as "
                    f"`tenclip labels space` writes it; this file has {', '.join(file.schema_arrow.names)}"
                )
            table = file.read(columns=["label", "tag"])
    except (OSError, pa.ArrowException) as err:
        raise DatasetError(f"{path}: cannot be read as Parquet: {err}") from err
    if not table.num_rows:
        raise DatasetError(f"{path}: has no labels")
    if table["label"].null_count or table["tag"].null_count:
        raise DatasetError(f"{path}: a row has no label or no tag")
    labels = table["label"].cast(pa.string()).combine_chunks().dictionary_encode()
    return LabelSpace(
        labels=tuple(labels.dictionary.to_pylist()),
        hashtags=pa.table({"label": labels.indices.cast(pa.int32()), "tag": table["tag"].cast(pa.string())}),
    )


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Puts the file's name before what is wrong with one of its labels."""
    try:
        yield
    except DatasetError as err:
        raise DatasetError(f"{path}: {err}") from err
