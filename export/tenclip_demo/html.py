"""Elements of SVG as strings. Text is escaped where it is put in, so no caller can forget it.

>>> print(tag("text", "1 < 2, ", tag("tspan", "really"), class_="note"))
<text class="note">1 &lt; 2, <tspan>really</tspan></text>
"""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

__all__ = ["Markup", "tag", "join"]


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """One element. Children: Markup as it is, None nothing, iterables their items, the rest as escaped text.

    Attributes: `class_` writes `class`, `stroke_width` `stroke-width`; True writes the bare name; None, False: nothing.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
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
    return f' {name}="{escape(text)}"'


def _child(child: object) -> str:
    if child is None:
        return ""
    if isinstance(child, Iterable) and not isinstance(child, str):
        return "".join(_child(c) for c in child)
    return escape(child)
