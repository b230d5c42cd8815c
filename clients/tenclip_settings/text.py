"""Settings as text: for a log, and as a file that gives them again."""

from __future__ import annotations

import json
import os
import types
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenclip_settings.fields import MASK, Field, fields_of

if TYPE_CHECKING:
    from tenclip_settings.loading import Loaded


def describe(settings: Any, origins: Mapping[str, str] = types.MappingProxyType({})) -> str:
    """`name=value` of every setting, secrets masked, with `[where from]` behind those that have an origin."""
    parts = []
    for field in fields_of(type(settings)).values():
        text = _plain(field, field.get(settings))
        parts.append(
            f"{field.name}={text} [{origins[field.name]}]" if field.name in origins else f"{field.name}={text}"
        )
    return " ".join(parts)


def _plain(field: Field, value: Any) -> str:
    if field.setting.secret and value:
        return MASK
    if value in (None, (), {}):
        return "none"
    if field.setting.form is not None:
        return field.setting.form.show(value)
    return ",".join(str(v) for v in value) if field.many else str(value)


def to_toml(loaded: Loaded[Any]) -> str:
    """A file that gives these settings again, secrets masked, with where from in comments."""
    lines = []
    for field in fields_of(type(loaded.settings)).values():
        value = field.get(loaded.settings)
        origin = loaded.origins.get(field.name)
        comment = f"  # {origin}" if origin else ""
        if value is None or field.name in loaded.unset:
            lines.append(f"# {field.name} is not set")
        elif field.setting.secret and value:
            lines.append(f"# {field.name} = {MASK}{comment}")
        else:
            text = _toml(value if field.setting.form is None else field.setting.form.show(value))
            lines.append(f"{field.name} = {text}{comment}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_toml(k)} = {_toml(v)}' for k, v in value.items())}}}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(_toml(v) for v in value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    # A string of JSON is one of TOML, but for DEL and, of characters beyond 16 bits, the escapes.
    text = os.path.abspath(value) if isinstance(value, Path) else value
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def shown(field: Field, value: Any) -> str:
    """A value in an error message."""
    return MASK if field.setting.secret else repr(value)
