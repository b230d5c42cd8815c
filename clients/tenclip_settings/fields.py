"""The fields of a dataclass as settings: their types, limits, names and help.

A field is a bool, int, float, str, Path or a Literal; `X | None`; several of them, `tuple[X, ...]`; a table of plain
values, `dict[str, Any]`; anything else with a `TextForm`; or another dataclass, whose fields then count as the outer
one's own. A field without a `Setting` works too, and has no help and no limits.
"""

from __future__ import annotations

import dataclasses
import math
import os
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

PREFIX = "TENCLIP_"
_NOUNS = {
    bool: "true or false", int: "a whole number", float: "a number", str: "a string", Path: "a path", dict: "a table",
}  # fmt: skip

# The types of a value, by the kind of its field; numbers.* are numpy's numbers, too.
_TYPES: dict[Any, Any] = {
    bool: bool, int: Integral, float: Real, str: str, Path: (str, os.PathLike), dict: dict,
}  # fmt: skip
MASK = "***"

T = TypeVar("T")


@dataclass(frozen=True)
class TextForm:
    """Reads and writes values of a type of their own. `parse` raises ValueError that says how, with an example.

    metavar: stands for the value in --help.
    """

    parse: Callable[[str], Any]
    show: Callable[[Any], str]
    metavar: str = "TEXT"


def numbers(separator: str, count: int, example: str, *, metavar: str = "NUMBERS") -> TextForm:
    """`count` numbers with a separator between them, as a tuple of floats.

    >>> numbers("-", 2, "0.6-1").parse("0.5-0.9")
    (0.5, 0.9)
    """

    def parse(text: str) -> tuple[float, ...]:
        parts = text.split(separator)
        try:
            values = tuple(float(part) for part in parts)
        except ValueError:
            values = ()
        if len(values) != count:
            raise ValueError(f"write {'two' if count == 2 else count} numbers, e.g. {example}")
        return values

    return TextForm(parse, lambda value: separator.join(f"{v:g}" for v in value), metavar)


@dataclass(frozen=True)
class Setting:
    """Help, limits, names and heading of a field: all that its type and default do not say.

    lowest, highest: inclusive; above, below: exclusive. option: the flag, where it is not the field's name with dashes;
    a name without dashes makes it the command's argument. aliases: further flags, e.g. ("--lr",) or ("-o",).
    group: heading in --help. default: words for it in --help, where the value itself says little. form: for a type of
    its own. is_path: text that names a file, which shells then complete. secret: never printed. exposed: False keeps
    the field out of the command line, the environment and files.
    """

    help: str
    _: dataclasses.KW_ONLY
    lowest: float | None = None
    highest: float | None = None
    above: float | None = None
    below: float | None = None
    option: str = ""
    aliases: tuple[str, ...] = ()
    group: str = ""
    default: str = ""
    form: TextForm | None = None
    is_path: bool = False
    secret: bool = False
    exposed: bool = True


@dataclass(frozen=True, kw_only=True)
class Field:
    """One setting. `kind`: the type of a value, of one item where there are `many`. `default`: MISSING for none.

    owner: the field that holds the dataclass in which this one lies, "" for the outermost.
    """

    name: str
    kind: Any
    many: bool
    optional: bool
    default: Any
    setting: Setting
    owner: str = ""

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return f"{PREFIX}{self.name.upper()}"

    @property
    def option(self) -> str:
        """Its flag, or the name of the argument."""
        return self.setting.option or f"--{self.name.replace('_', '-')}"

    @property
    def noun(self) -> str:
        """The kind of value that it takes, in words."""
        one = f"one of {', '.join(get_args(self.kind))}" if get_origin(self.kind) is Literal else _NOUNS[self.kind]
        return f"a list, each {one}" if self.many else one

    def get(self, settings: Any) -> Any:
        """Its value in an instance of the dataclass."""
        return getattr(getattr(settings, self.owner) if self.owner else settings, self.name)

    def parse(self, text: str, origin: str) -> Any:
        """The value that `text` stands for. Raises ValueError that names `origin`."""
        assert self.setting.form is not None
        try:
            return self.setting.form.parse(text)
        except ValueError as err:
            raise ValueError(f"{origin} {text!r}: {err}") from None


# -- from the class ---------------------------------------------------------------------------------------------------


_fields_of: dict[type, Mapping[str, Field]] = {}


def fields_of(cls: type) -> Mapping[str, Field]:
    """Every exposed field by its name, in their order, those of inner dataclasses in the place of these.

    Raises TypeError for a type that no setting can have, and for a name that two fields share. Found once for a class:
    its annotations are text, which Python compiles anew each time that it is asked for them.
    """
    if cls not in _fields_of:
        found: dict[str, Field] = {}
        for field in _fields(cls):
            if field.name in found:
                raise TypeError(f"two settings of {cls.__name__} are called {field.name}")
            found[field.name] = field
        _fields_of[cls] = types.MappingProxyType(found)
    return _fields_of[cls]


def _fields(cls: type, defaults: Any = None, owner: str = "") -> list[Field]:
    hints = typing.get_type_hints(cls, include_extras=True)
    found: list[Field] = []
    for f in dataclasses.fields(cls):
        hint, setting = _unwrapped(hints[f.name])
        if not setting.exposed:
            continue
        default = getattr(defaults, f.name) if defaults is not None else _default(f)
        if dataclasses.is_dataclass(hint) and not owner:
            assert isinstance(hint, type)
            found += _fields(hint, default, f.name)
        else:
            found.append(_field(f.name, hint, default, setting, owner))
    return found


def _unwrapped(hint: Any) -> tuple[Any, Setting]:
    if get_origin(hint) is not Annotated:
        return hint, Setting("")
    hint, *extras = get_args(hint)
    return hint, next((e for e in extras if isinstance(e, Setting)), Setting(""))


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _field(name: str, hint: Any, default: Any, setting: Setting, owner: str) -> Field:
    optional = get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint)
    if setting.form is not None:
        return Field(name=name, kind=str, many=False, optional=optional, default=default, setting=setting, owner=owner)
    if optional:
        (hint,) = (a for a in get_args(hint) if a is not type(None))
    many = get_origin(hint) is tuple
    if many:
        hint, ellipsis = get_args(hint)
        assert ellipsis is ...
    if hint == dict[str, Any]:
        hint = dict
    if hint not in _NOUNS and get_origin(hint) is not Literal:
        raise TypeError(f"a setting cannot be of the type of {name}, {hint}")
    return Field(name=name, kind=hint, many=many, optional=optional, default=default, setting=setting, owner=owner)


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """An instance with these values, by the names of `fields_of`, and defaults for the rest.

    Raises TypeError for a name that does not exist.
    """
    arguments: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    fields = fields_of(cls)
    if unknown := sorted(set(values) - set(fields)):
        raise TypeError(f"{cls.__name__} has no setting {', '.join(unknown)}")
    for name, field in fields.items():
        if name in values:
            (inner.setdefault(field.owner, {}) if field.owner else arguments)[name] = values[name]
    for f in dataclasses.fields(cls):  # type: ignore[arg-type]
        if f.name in inner:
            arguments[f.name] = dataclasses.replace(_default(f), **inner[f.name])
    return cls(**arguments)


def replaced(settings: T, values: Mapping[str, Any]) -> T:
    """A copy of a dataclass instance with other values, of its own fields or of those of its inner dataclasses.

    Names are those of `fields_of`, and of the instance's own fields; a whole inner dataclass will do, too. Raises
    TypeError for a name that does not exist.
    """
    fields = fields_of(type(settings))
    own: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        owner = fields[name].owner if name in fields else ""
        (inner.setdefault(owner, {}) if owner else own)[name] = value
    for name, changes in inner.items():
        own[name] = dataclasses.replace(own.get(name, getattr(settings, name)), **changes)
    return dataclasses.replace(settings, **own)  # type: ignore[type-var]


# -- limits -----------------------------------------------------------------------------------------------------------


def check_all(settings: Any) -> None:
    """For `__post_init__`: raises ValueError for the first field that is outside of its limits or choices.

    Inner dataclasses check themselves.
    """
    for field in fields_of(type(settings)).values():
        if not field.owner:
            check(field, field.get(settings))


def check(field: Field, value: Any) -> None:
    """Raises ValueError for a value of another type, or outside of the field's limits or choices."""
    if (value is None and field.optional) or field.setting.form is not None:
        return
    if field.many and not isinstance(value, tuple | list):
        raise ValueError(f"{field.name} must be {field.noun}, got {value!r}")
    for one in value if field.many else (value,):
        _check_one(field, one)


def _check_one(field: Field, value: Any) -> None:
    if get_origin(field.kind) is Literal:
        if value not in get_args(field.kind):
            raise ValueError(f"{field.name} {value!r} is not one of {', '.join(get_args(field.kind))}")
        return
    # A bool is an int, to isinstance.
    if not isinstance(value, _TYPES[field.kind]) or (isinstance(value, bool) and field.kind is not bool):
        shown = MASK if field.setting.secret else repr(value)
        raise ValueError(f"{field.name} must be {field.noun}, got {shown}")
    setting = field.setting
    if field.kind in (int, float) and not (
        (setting.lowest is None or value >= setting.lowest)
        and (setting.above is None or value > setting.above)
        and (setting.highest is None or value <= setting.highest)
        and (setting.below is None or value < setting.below)
        and not math.isnan(value)
    ):
        raise ValueError(f"{field.name} must be {_limits(setting)}, got {value}")


def _limits(setting: Setting) -> str:
    if setting.lowest is not None and setting.highest is not None:
        return f"from {setting.lowest} to {setting.highest}"
    parts = (
        ("at least", setting.lowest),
        ("above", setting.above),
        ("at most", setting.highest),
        ("below", setting.below),
    )
    return " and ".join(f"{word} {limit}" for word, limit in parts if limit is not None) or "a number"
