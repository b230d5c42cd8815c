"""The combinations of a grid search, from texts of `--set`."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenclip_api.errors import InvalidRequest
from tenclip_settings import fields_of, parse_assignments
from tenclip_training.runs.config import RESUMABLE_FIELDS, TrainConfig

# Which videos are learned from, and where runs lie: the search itself sets these.
NOT_SWEPT = frozenset(
    {"videos", "labels", "label_column", "heads", "train_split", "val_split", "held_out", "whole_videos", "missing"}
)
LONGEST_NAME = 120  # of a folder


@dataclass(frozen=True, kw_only=True)
class Point:
    """One combination. values: text of each swept field, by the field's name; `config` is of the whole search, without
    the folder and the videos of the run."""

    values: Mapping[str, str]
    config: TrainConfig

    @property
    def name(self) -> str:
        """Its folder: `lr=0.1,momentum=0`."""
        text = ",".join(f"{name}={value}" for name, value in self.values.items())
        plain = re.sub(r"[^\w.=,+-]", "_", text)
        if plain == text and len(text) <= LONGEST_NAME:
            return text
        return f"{plain[: LONGEST_NAME - 9]}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"


def split_assignments(texts: Sequence[str]) -> tuple[list[str], dict[str, tuple[str, tuple[str, ...]]]]:
    """(assignments of one value, {name of the field: (its path as written, its values)}), from texts of `--set`.

    Values are separated by commas; by semicolons where one value may have commas itself, as schedule.lr_steps has.
    Raises ValueError for a field that does not exist or that the search itself sets, and one that is there twice.

    >>> split_assignments(["optimizer.lr=0.1,0.01", "momentum=0.5"])
    (['momentum=0.5'], {'lr': ('optimizer.lr', ('0.1', '0.01'))})
    """
    fields, single, swept = fields_of(TrainConfig), [], {}
    for text in texts:
        path, _, value = text.partition("=")
        path = path.strip()
        field = fields.get(path.rpartition(".")[2])
        if field is None or path not in (field.name, f"{field.owner}.{field.name}"):
            parse_assignments(TrainConfig, [text])
            raise AssertionError(f"{path} is no field")
        has_commas = field.many or field.kind is dict or field.setting.form is not None
        values = [v.strip() for v in value.split(";" if has_commas or ";" in value else ",")]
        if len(values) == 1:
            single.append(text)
            continue
        if field.name in NOT_SWEPT | RESUMABLE_FIELDS:
            raise ValueError(
                f"--set {text!r}: {field.name} is not for a search, which is on the same videos throughout"
            )
        if field.name in swept:
            raise ValueError(f"--set {text!r}: {path} is searched twice")
        if len(set(values)) < len(values) or "" in values:
            raise ValueError(f"--set {text!r}: a value is there twice, or is empty")
        swept[field.name] = (path, tuple(values))
    return single, swept


def build_points(
    swept: Mapping[str, tuple[str, Sequence[str]]], make_config: Callable[[Mapping[str, Any]], TrainConfig]
) -> tuple[Point, ...]:
    """Every combination. make_config: from values of the swept fields to a config.

    Raises InvalidRequest that names all values that cannot work, not only the first.
    """
    points: list[Point] = []
    problems: dict[str, list[Mapping[str, str]]] = {}
    for combination in itertools.product(*(values for _, values in swept.values())):
        texts = dict(zip(swept, combination, strict=True))
        try:
            parsed = parse_assignments(TrainConfig, [f"{swept[name][0]}={text}" for name, text in texts.items()])
            points.append(Point(values=texts, config=make_config(parsed)))
        except ValueError as err:
            problems.setdefault(str(err), []).append(texts)
    if problems:
        raise InvalidRequest(not_all_work(problems))
    return tuple(points)


def in_words(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def not_all_work(problems: Mapping[str, Sequence[Mapping[str, str]]]) -> str:
    """The message for {what is wrong: the combinations of which it is}."""
    parts = []
    for problem, combinations in problems.items():
        named = " and ".join(map(in_words, combinations[:2]))
        parts.append(f"{problem} ({named}{f' and {len(combinations) - 2} more' if len(combinations) > 2 else ''})")
    return f"no run was begun, for not all values can work: {'; '.join(parts)}"
