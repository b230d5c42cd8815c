"""A dataclass from its defaults, a file of TOML, the environment and flags."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import tomllib
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

from tenclip_settings.fields import PREFIX, Field, build, check, fields_of
from tenclip_settings.text import shown as _shown

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Loaded(Generic[T]):
    """Settings, and where each value came from that is not the default: a flag, a variable, a key of a file.

    unset: fields without a default that nobody set. empty: variables that are set to "", which says nothing.
    """

    settings: T
    origins: Mapping[str, str]
    unset: frozenset[str] = frozenset()
    empty: tuple[str, ...] = ()


def load_settings(
    cls: type[T],
    *,
    file: Path | None = None,
    environment: Mapping[str, str] = types.MappingProxyType({}),
    others: Sequence[str] = (),
    flags: Mapping[str, Any] = types.MappingProxyType({}),
    stand_ins: Mapping[str, Any] = types.MappingProxyType({}),
) -> Loaded[T]:
    """`cls` from its defaults, `file`, `environment` and `flags`, each winning over those before it.

    others: variables with our prefix that are nobody's mistake; one that ends in `_` stands for all that begin so.
    flags: as typer gives them, None for the ones that were not there.
    stand_ins: for fields without a default, where an answer is wanted though nobody set them.
    Raises ValueError, with the file or the variable in its message, for unknown names, wrong types and bad values.
    """
    fields = fields_of(cls)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, value, origin in (
        *_from_file(fields, file),
        *_from_environment(fields, environment, others),
        *_from_flags(fields, flags),
    ):
        values[name], origins[name] = _checked(fields[name], value, origin), origin
    unset = [f for f in fields.values() if f.default is dataclasses.MISSING and f.name not in values]
    for field in unset:
        if field.name not in stand_ins:
            raise ValueError(f"{field.name} is not set: use {field.option}, {field.variable} or a file")
    kept = {n: o for n, o in origins.items() if values[n] != fields[n].default}
    empty = tuple(f.variable for f in fields.values() if environment.get(f.variable) == "")
    settings = build(cls, {**stand_ins, **values})
    return Loaded(settings=settings, origins=kept, unset=frozenset(f.name for f in unset), empty=empty)


def flag_values(cls: type, flags: Mapping[str, Any]) -> dict[str, Any]:
    """The values of flags as typer gives them, by the names of their fields, without those that were not there.

    Raises ValueError that names the flag.
    """
    fields = fields_of(cls)
    values = {}
    for name, value, origin in _from_flags(fields, flags):
        values[name] = _checked(fields[name], value, origin)
    return values


def parse_assignments(cls: type, texts: Sequence[str], *, option: str = "--set") -> dict[str, Any]:
    """Values of `SECTION.FIELD=VALUE` or `FIELD=VALUE`, by the names of the fields.

    VALUE is written as on the command line; `none` stands for None where a field can be None. Raises ValueError for a
    field that does not exist and for a value that it cannot have.
    """
    fields = fields_of(cls)
    by_path = {f"{f.owner}.{name}" if f.owner else name: f for name, f in fields.items()}
    values: dict[str, Any] = {}
    for text in texts:
        path, separator, value = (part.strip() for part in text.partition("="))
        if not separator:
            raise ValueError(f"{option} {text!r}: write FIELD=VALUE, e.g. {next(iter(by_path))}=...")
        field = by_path.get(path) or fields.get(path)
        if field is None:
            raise ValueError(f"{option} {text!r}: no field is called {path}{_suggestion(path, {**by_path, **fields})}")
        origin = f"{option} {path}"
        if value.lower() == "none" and field.optional and "none" not in get_args(field.kind):
            values[field.name] = None
        else:
            values[field.name] = _checked(field, _from_text(field, value, origin), origin)
    return values


def _checked(field: Field, value: Any, origin: str) -> Any:
    try:
        check(field, value)
    except ValueError as err:
        raise ValueError(f"{origin}: {err}") from None
    return value


def _from_file(fields: Mapping[str, Field], file: Path | None) -> Iterator[tuple[str, Any, str]]:
    if file is None:
        return
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise ValueError(f"{file} is not TOML: {err}") from None
    except OSError as err:
        raise ValueError(f"cannot read {file}: {err.strerror or err}") from None
    for name, value in table.items():
        if name not in fields:
            raise ValueError(f"{file}: no setting is called {name}{_suggestion(name, fields)}")
        yield name, _from_toml(fields[name], value, file), f"{file}"


def _from_toml(field: Field, value: Any, file: Path) -> Any:
    problem = ValueError(f"{file}: {field.name} must be {field.noun}, got {_shown(field, value)}")
    if field.setting.form is not None and isinstance(value, str):
        return field.parse(value, f"{file}: {field.name}")
    if not field.many:
        return _typed(field, value, file, problem)
    if not isinstance(value, list):
        raise problem
    return tuple(_typed(field, v, file, problem) for v in value)


def _typed(field: Field, value: Any, file: Path, problem: ValueError) -> Any:
    """A value of a file, as the field wants it. Paths are relative to the file."""
    kind = str if field.kind is Path or get_origin(field.kind) is Literal else field.kind
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:  # a bool is an int, to isinstance
        raise problem
    return file.parent / value if field.kind is Path else value


def _from_environment(
    fields: Mapping[str, Field], environment: Mapping[str, str], others: Sequence[str]
) -> Iterator[tuple[str, Any, str]]:
    by_variable = {f.variable: f for f in fields.values()}
    exact = {o for o in others if not o.endswith("_")}
    prefixes = tuple(o for o in others if o.endswith("_"))
    for variable in sorted(v for v in environment if v.startswith(PREFIX)):
        if variable not in by_variable:
            if variable in exact or variable.startswith(prefixes):
                continue
            raise ValueError(f"{variable} is set, and no setting is called so{_suggestion(variable, by_variable)}")
        # Container tools set what they know nothing of to "": the same as not there.
        if text := environment[variable]:
            field = by_variable[variable]
            yield field.name, _from_text(field, text, variable), variable


def _from_text(field: Field, text: str, origin: str) -> Any:
    if field.setting.form is not None:
        return field.parse(text, origin)
    if field.many:
        separator = os.pathsep if field.kind is Path else ","
        return tuple(_parse(field, part.strip(), origin) for part in text.split(separator) if part.strip())
    return _parse(field, text, origin)


def _parse(field: Field, text: str, origin: str) -> Any:
    problem = ValueError(f"{origin} must be {field.noun}, got {_shown(field, text)}")
    if field.kind is bool:
        if text.lower() not in _TRUE + _FALSE:
            raise problem
        return text.lower() in _TRUE
    if field.kind is dict:
        return dict(_pair(part, origin) for part in text.split(","))
    if field.kind in (int, float, Path):
        try:
            return field.kind(text)
        except ValueError:
            raise problem from None
    return text


def _from_flags(fields: Mapping[str, Field], flags: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    for name, value in flags.items():
        field = fields[name]
        if value is None or (isinstance(value, list | tuple) and not value):
            continue
        yield name, _from_flag(field, value), field.option


def _from_flag(field: Field, value: Any) -> Any:
    """A value as the command line gives it, as the field wants it."""
    if field.setting.form is not None:
        return field.parse(value, field.option)
    if field.kind is dict:
        return dict(_pair(text, field.option) for text in value)
    if field.many:
        return tuple(str(one) if field.setting.is_path else one for one in value)
    return str(value) if field.setting.is_path else value


def _pair(text: str, option: str) -> tuple[str, Any]:
    """`NAME=JSON` -> (NAME, the value); a bare word is a string."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ValueError(f"{option} {text!r}: write NAME=VALUE, e.g. bn_eps=1e-5")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _suggestion(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
