"""Settings of a dataclass from a file, the environment and the command line, none of them named twice.

One field is all there is to a setting::

    port: Annotated[int, Setting("gRPC port; 0 takes a free one.", lowest=0, highest=65535)] = 7411

which makes `port = 7411` in the file, `TENCLIP_PORT=7411` in the environment and `--port 7411` on the command line.
A field without a `Setting` works too, and has no help and no limits. Flags win over variables, and those over the file.
Fields are bool, int, float, str, Path or a Literal; `X | None`; or a tuple of them, `tuple[X, ...]`.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
import math
import os
import tomllib
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

PREFIX = "TENCLIP_"
MASK = "***"
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_NOUNS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", Path: "a path"}

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Setting:
    """What a field's type and default do not say.

    lowest, highest: inclusive; above: exclusive. option: the flag, where it is not the field's name with dashes;
    a name without dashes makes it the command's argument. group: heading in --help. secret: never printed.
    """

    help: str
    _: dataclasses.KW_ONLY
    lowest: float | None = None
    highest: float | None = None
    above: float | None = None
    option: str = ""
    group: str = ""
    secret: bool = False


@dataclass(frozen=True, kw_only=True)
class Field:
    """One setting. `kind`: the type of a value, of one item where there are `many`. `default`: MISSING for none."""

    name: str
    kind: Any
    many: bool
    optional: bool
    default: Any
    setting: Setting

    @property
    def variable(self) -> str:
        return f"{PREFIX}{self.name.upper()}"

    @property
    def option(self) -> str:
        return self.setting.option or f"--{self.name.replace('_', '-')}"

    @property
    def noun(self) -> str:
        """What a value must be."""
        one = f"one of {', '.join(get_args(self.kind))}" if get_origin(self.kind) is Literal else _NOUNS[self.kind]
        return f"a list, each {one}" if self.many else one


@dataclass(frozen=True, kw_only=True)
class Loaded(Generic[T]):
    """Settings, and where each value came from that is not the default: a flag, a variable, a key of a file.

    unset: fields without a default that nobody set. empty: variables that are set to "", which says nothing.
    """

    settings: T
    origins: Mapping[str, str]
    unset: frozenset[str] = frozenset()
    empty: tuple[str, ...] = ()


# -- fields -----------------------------------------------------------------------------------------------------------


def fields_of(cls: type) -> Mapping[str, Field]:
    """Every field by its name, in their order. Raises TypeError for a type that no setting can have."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {f.name: _field(f.name, hints[f.name], f.default) for f in dataclasses.fields(cls)}


def _field(name: str, hint: Any, default: Any) -> Field:
    setting = Setting("")
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        setting = next((e for e in extras if isinstance(e, Setting)), setting)
    optional = get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint)
    if optional:
        (hint,) = (a for a in get_args(hint) if a is not type(None))
    many = get_origin(hint) is tuple
    if many:
        hint, ellipsis = get_args(hint)
        assert ellipsis is ...
    if hint not in _NOUNS and get_origin(hint) is not Literal:
        raise TypeError(f"a setting cannot be of the type of {name}, {hint}")
    return Field(name=name, kind=hint, many=many, optional=optional, default=default, setting=setting)


def check(field: Field, value: Any) -> None:
    """Raises ValueError for a value outside of the field's limits or choices."""
    if value is None and field.optional:
        return
    for one in value if field.many else (value,):
        _check_one(field, one)


def _check_one(field: Field, value: Any) -> None:
    if get_origin(field.kind) is Literal:
        if value not in get_args(field.kind):
            raise ValueError(f"{field.name} {value!r} is not one of {', '.join(get_args(field.kind))}")
        return
    low, above, high = field.setting.lowest, field.setting.above, field.setting.highest
    if field.kind in (int, float) and not (
        (low is None or value >= low)
        and (above is None or value > above)
        and (high is None or value <= high)
        and not math.isnan(value)
    ):
        raise ValueError(f"{field.name} must be {_limits(low, above, high)}, got {value}")


def _limits(low: float | None, above: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"from {low} to {high}"
    if above is not None:
        return f"above {above}" if high is None else f"above {above} and at most {high}"
    return f"at least {low}" if low is not None else f"at most {high}"


# -- loading ----------------------------------------------------------------------------------------------------------


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
        try:
            check(fields[name], value)
        except ValueError as err:
            raise ValueError(f"{origin}: {err}") from None
        values[name], origins[name] = value, origin
    unset = [f for f in fields.values() if f.default is dataclasses.MISSING and f.name not in values]
    for field in unset:
        if field.name not in stand_ins:
            raise ValueError(f"{field.name} is not set: use {field.option}, {field.variable} or a file")
    kept = {n: o for n, o in origins.items() if values[n] != fields[n].default}
    empty = tuple(f.variable for f in fields.values() if environment.get(f.variable) == "")
    settings = cls(**{**stand_ins, **values})
    return Loaded(settings=settings, origins=kept, unset=frozenset(f.name for f in unset), empty=empty)


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
    if field.kind in (int, float, Path):
        try:
            return field.kind(text)
        except ValueError:
            raise problem from None
    return text


def _from_flags(fields: Mapping[str, Field], flags: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    for name, value in flags.items():
        if value is None or (fields[name].many and not value):
            continue
        yield name, tuple(value) if fields[name].many else value, fields[name].option


def _suggestion(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


# -- showing ----------------------------------------------------------------------------------------------------------


def describe(settings: Any, origins: Mapping[str, str] = types.MappingProxyType({})) -> str:
    """`name=value` of every setting, secrets masked, with `[where from]` behind those that have an origin."""
    parts = []
    for field in fields_of(type(settings)).values():
        text = _plain(field, getattr(settings, field.name))
        parts.append(
            f"{field.name}={text} [{origins[field.name]}]" if field.name in origins else f"{field.name}={text}"
        )
    return " ".join(parts)


def _plain(field: Field, value: Any) -> str:
    if field.setting.secret and value:
        return MASK
    if value is None or value == ():
        return "none"
    return ",".join(str(v) for v in value) if field.many else str(value)


def to_toml(loaded: Loaded[Any]) -> str:
    """A file that gives these settings again, secrets masked, with where from in comments."""
    lines = []
    for field in fields_of(type(loaded.settings)).values():
        value = getattr(loaded.settings, field.name)
        origin = loaded.origins.get(field.name)
        comment = f"  # {origin}" if origin else ""
        if value is None or field.name in loaded.unset:
            lines.append(f"# {field.name} is not set")
        elif field.setting.secret and value:
            lines.append(f"# {field.name} = {MASK}{comment}")
        else:
            lines.append(f"{field.name} = {_toml(value)}{comment}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(v) for v in value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    # A string of JSON is one of TOML, but for DEL and, of characters beyond 16 bits, the escapes.
    text = os.path.abspath(value) if isinstance(value, Path) else value
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _shown(field: Field, value: Any) -> str:
    return MASK if field.setting.secret else repr(value)


# -- command line -----------------------------------------------------------------------------------------------------


def with_options_of(cls: type) -> Callable[[Function], Function]:
    """Gives a function with `**settings` one option for each field, before the parameters that it names itself.

    A flag that is not there arrives as None.
    """

    def decorate(function: Function) -> Function:
        ours = [_parameter(f) for f in fields_of(cls).values()]
        own = inspect.signature(function, eval_str=True)
        named = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        # The argument may be left out, so that everything has a default and any order will do.
        signature = own.replace(parameters=[p.replace(kind=p.KEYWORD_ONLY) for p in (*ours, *named)])
        function.__signature__ = signature  # type: ignore[attr-defined]
        return function

    return decorate


def _parameter(field: Field) -> inspect.Parameter:
    import typer  # the core reads its settings without a command line

    info: Any
    if field.option.startswith("--"):
        flag = f"{field.option}/--no-{field.option[2:]}" if field.kind is bool else field.option
        info = typer.Option(flag, help=_help(field), show_default=False, rich_help_panel=field.setting.group or None)
    else:
        # It may come from the file or the environment instead.
        info = typer.Argument(metavar=field.option, help=field.setting.help, show_default=False)
    kind = list[field.kind] if field.many else field.kind  # type: ignore[name-defined]
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, info]
    )


def _help(field: Field) -> str:
    # To typer the default is None, "not said": the real one applies where file and environment say nothing either.
    if field.default in (None, dataclasses.MISSING, (), False):
        return field.setting.help
    return f"{field.setting.help} Default: {field.default}."
