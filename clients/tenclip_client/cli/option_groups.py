"""Options of a command in groups: one dataclass a group, which several commands can share.

    @dataclass(frozen=True, kw_only=True)
    class Output:
        out: Annotated[Path, typer.Option(help="Folder to write into.", rich_help_panel="Output")] = Path("models")
        overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")] = False

    @with_option_groups
    def export(checkpoint: Annotated[Path, typer.Argument()], output: Output) -> None: ...

The command line then has `--out` and `--overwrite`, and `export` gets them as one `Output`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter of `command` that is annotated with a dataclass by one option for each of its fields.

    Options appear in the help in the order of the parameters and, within a group, of the fields. A ValueError that a
    group raises in `__post_init__` becomes an InvalidRequest, which the command line prints as one line.
    Raises TypeError for two options of one name: one of them would be lost.
    """
    own = inspect.signature(command, eval_str=True)
    groups = {p.name: p.annotation for p in own.parameters.values() if dataclasses.is_dataclass(p.annotation)}
    parameters: list[inspect.Parameter] = []
    for parameter in own.parameters.values():
        parameters += _options_of(groups[parameter.name]) if parameter.name in groups else [_keyword(parameter)]
    names = [p.name for p in parameters]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise TypeError(f"{command.__name__}: several groups have the option {', '.join(repeated)}")

    def run(**values: Any) -> None:
        made = {name: _make(group, values) for name, group in groups.items()}
        command(**made, **values)

    # Not functools.wraps: typer would read the annotations of the original through `__wrapped__`.
    run.__module__, run.__name__, run.__doc__ = command.__module__, command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {}
    return run


def _options_of(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [_option(field, hints[field.name]) for field in dataclasses.fields(group)]


def _option(field: dataclasses.Field[Any], hint: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _keyword(parameter: inspect.Parameter) -> inspect.Parameter:
    """Typer calls by name, so that any order of parameters with and without defaults will do."""
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


def _make(group: Any, values: dict[str, Any]) -> Any:
    """One group from its values, which are taken out of `values`."""
    from tenclip_api.errors import InvalidRequest

    try:
        return group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
    except ValueError as err:
        raise InvalidRequest(str(err)) from err
