"""Elements of HTML and SVG as strings. Text is escaped where it is put in, so no caller can forget it.

>>> tag("p", "1 < 2, ", tag("b", "really"), class_="note")
'<p class="note">1 &lt; 2, <b>really</b></p>'
"""

from __future__ import annotations

import html
from collections.abc import Iterable

Child = "Markup | str | int | None | Iterable[Child]"
_VOID = frozenset({"img", "br", "hr", "meta"})


class Markup(str):
    """A string that is markup already. Made by `tag` and `join` only."""

    __slots__ = ()


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """One element. Children: Markup as it is, None nothing, iterables their items, the rest as escaped text.

    Attributes: `class_` writes `class`, `stroke_width` `stroke-width`; True writes the bare name; None, False: nothing.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: object) -> Markup:
    """Children side by side, without an element around them."""
    return Markup("".join(_child(c) for c in children))


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-") if key != "viewBox" else key
    if value is True:
        return f" {name}"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f' {name}="{html.escape(text)}"'


def _child(child: object) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, Iterable) and not isinstance(child, str):
        return "".join(_child(c) for c in child)
    return html.escape(str(child), quote=False)
