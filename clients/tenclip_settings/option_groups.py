"""Groups of options that several commands share, each written down once.

A group is a frozen dataclass whose fields are annotated as typer's options. A command names it as one parameter::

    @with_option_groups
    def predict(*, videos: Annotated[list[str], VIDEO_ARGUMENT], connection: ConnectionOptions) -> None: ...

and gets `--server`, `--timeout` and the others, gathered into one object. A group may have methods that do its part of
the work, such as reading the files that its options name.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer shall see it: in place of every group (a dataclass), the group's options.

    Called directly, options that are left out have their defaults.
    """
    own = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {
        p.name: p.annotation for p in own.parameters.values() if dataclasses.is_dataclass(p.annotation)
    }

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        made: dict[str, Any] = {}
        for name, group in groups.items():
            given = {f.name: values.pop(f.name) for f in dataclasses.fields(group) if f.name in values}
            made[name] = group(**given)
        command(**values, **made)

    parameters = [p for parameter in own.parameters.values() for p in _options(parameter)]
    with_options.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {}  # typer reads the signature, and would look here for more
    return with_options


def _options(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    group = parameter.annotation
    if not dataclasses.is_dataclass(group):
        yield parameter.replace(kind=parameter.KEYWORD_ONLY)
        return
    annotations = get_type_hints(group, include_extras=True)
    for field in dataclasses.fields(group):
        default = parameter.empty if field.default is dataclasses.MISSING else field.default
        yield inspect.Parameter(field.name, parameter.KEYWORD_ONLY, default=default, annotation=annotations[field.name])
