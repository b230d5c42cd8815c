"""Options of a command from the fields of a dataclass."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from tenclip_settings.fields import Field, fields_of

Function = TypeVar("Function", bound=Callable[..., Any])

LONGEST_CHOICES = 40  # characters


def with_options_of(cls: type) -> Callable[[Function], Function]:
    """Gives a function with `**settings` one option for each field, before the parameters that it names itself.

    A flag that is not there arrives as None, or as an empty list where it can be repeated; `load_settings(cls,
    flags=settings)` turns them into an instance.
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
    import typer  # whoever only reads settings needs no command line

    setting, info = field.setting, None
    if field.option.startswith("--"):
        flag = f"{field.option}/--no-{field.option[2:]}" if field.kind is bool else field.option
        # The command's argument may be left out: it can come from the file or the environment instead.
        info = typer.Option(
            flag,
            *setting.aliases,
            help=_help(field),
            show_default=False,
            metavar=_metavar(field),
            rich_help_panel=setting.group or None,
        )
    else:
        info = typer.Argument(metavar=field.option, help=setting.help, show_default=False)
    one = str if field.kind is dict else Path if setting.is_path else field.kind
    kind = list[one] if field.many or field.kind is dict else one  # type: ignore[valid-type]
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, info]
    )


def _metavar(field: Field) -> str | None:
    """The placeholder of the value in --help, where typer's own word for the type would not do."""
    if field.setting.form is not None:
        return field.setting.form.metavar
    if field.kind is dict:
        return "NAME=VALUE"
    if _has_many_choices(field):
        return "NAME"
    return f"<{field.kind.__name__.lower()}>" if field.many and isinstance(field.kind, type) else None


def _help(field: Field) -> str:
    # To typer the default is None, "not said": the real one applies where nothing else says otherwise.
    default = field.setting.default or _shown(field)
    choices = f" One of {', '.join(get_args(field.kind))}." if _has_many_choices(field) else ""
    return f"{field.setting.help}{choices}" + (f" Default: {default}." if default else "")


def _has_many_choices(field: Field) -> bool:
    """Whether the choices are too long for the column of --help that types have."""
    return get_origin(field.kind) is Literal and sum(map(len, get_args(field.kind))) > LONGEST_CHOICES


def _shown(field: Field) -> str:
    value = field.default
    if value is dataclasses.MISSING or value is False or value in (None, (), {}, ""):
        return ""
    if field.setting.form is not None:
        return field.setting.form.show(value)
    if value is True:
        return "on"
    return f"{value:g}" if isinstance(value, float) else str(value)
