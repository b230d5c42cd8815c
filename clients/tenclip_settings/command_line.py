"""Options of a command from the fields of a dataclass."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from tenclip_settings.fields import Field, fields_of

Function = TypeVar("Function", bound=Callable[..., Any])


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
            flag, *setting.aliases, help=_help(field), show_default=False, rich_help_panel=setting.group or None
        )
    else:
        info = typer.Argument(metavar=field.option, help=setting.help, show_default=False)
    one = str if field.kind is dict else Path if setting.is_path else field.kind
    kind = list[one] if field.many or field.kind is dict else one  # type: ignore[valid-type]
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, info]
    )


def _help(field: Field) -> str:
    # To typer the default is None, "not said": the real one applies where nothing else says otherwise.
    default = field.setting.default or _shown(field)
    return f"{field.setting.help} Default: {default}." if default else field.setting.help


def _shown(field: Field) -> str:
    value = field.default
    if value is dataclasses.MISSING or value is False or value in (None, (), {}, ""):
        return ""
    if field.setting.form is not None:
        return field.setting.form.show(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
