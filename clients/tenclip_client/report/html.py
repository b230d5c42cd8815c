"""Elements of HTML and SVG as strings. Text is escaped where it is put in, so no caller can forget it.

>>> print(tag("text", "1 < 2, ", tag("tspan", "really"), class_="note"))
<text class="note">1 &lt; 2, <tspan>really</tspan></text>
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

__all__ = ["Markup", "breakable", "join", "tag"]

# Characters that no page may hold, by the standard of HTML; halves of surrogate pairs, which names of files have for
# bytes that are no UTF-8; and those that turn the direction of what follows, by which `gpj.exe` passes for a picture.
_UNUSABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\u202a-\u202e\u2066-\u2069]")
# Behind these, long names may go on in the next line.
_BREAKS = re.compile(r"(?<=[_/\\-])")
# Elements without content, which have no closing tag.
_VOID = frozenset({"br", "col", "hr", "img", "link", "meta", "wbr"})


class Markup(str):
    """Text that is HTML already. Template engines know it by `__html__`, too."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


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


def breakable(text: str) -> Markup:
    """A name that lines may break in behind `_`, `/` and `-`, and whose direction of writing is its own."""
    return tag("bdi", *((part, tag("wbr")) for part in _BREAKS.split(text)))


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-") if key != "viewBox" else key
    if value is True:
        return f" {name}"
    return f' {name}="{_escape(f"{value:.6g}" if isinstance(value, float) else str(value))}"'


def _child(child: object) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, Iterable) and not isinstance(child, str):
        return "".join(_child(c) for c in child)
    return _escape(str(child))


def _escape(text: str) -> str:
    return html.escape(_UNUSABLE.sub("\ufffd", text))
