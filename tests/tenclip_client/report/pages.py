"""Pages as a browser would read them: elements, text, and what must not be in any."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

from PIL import Image

Attributes = dict[str, str | None]
_VOID = frozenset({"br", "img", "meta", "wbr"})
_JPEG = "data:image/jpeg;base64,"


class Page(HTMLParser):
    """Checks that every element is closed in order, and gathers what a test asks for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.open: list[str] = []
        self.elements: list[tuple[str, Attributes]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    @property
    def text(self) -> str:
        """All that is read, without the style sheet."""
        return "".join(data for tag, data in self.texts if tag != "style")

    def all(self, tag: str, class_: str | None = None) -> list[Attributes]:
        """The elements of a name, or those of them that have this class."""
        found = [attributes for name, attributes in self.elements if name == tag]
        return [a for a in found if class_ is None or class_ in (a.get("class") or "").split()]

    def pictures(self) -> list[Image.Image]:
        """Every picture of the page, decoded."""
        found: list[Image.Image] = []
        for attributes in self.all("img"):
            source = attributes["src"] or ""
            assert source.startswith(_JPEG)
            picture = Image.open(io.BytesIO(base64.b64decode(source.removeprefix(_JPEG), validate=True)))
            picture.load()
            found.append(picture)
        return found

    def check(self) -> None:
        """Nothing comes from elsewhere, nothing runs, and every figure can be read."""
        for tag, attributes in self.elements:
            assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form"), tag
            for name, value in attributes.items():
                assert not name.startswith("on"), f"{tag} has a script in {name}"
                if name in ("src", "srcset", "xlink:href"):
                    assert (value or "").startswith(_JPEG), (tag, value)
        assert not re.search(r"https?:|@import|url\(|javascript:", self.source.replace("_", " "))
        assert all(a.get("alt") for a in self.all("img"))
        charts = self.all("svg")
        assert all(a.get("role") == "img" for a in charts)
        assert len(self.all("desc")) == len(charts) > 0
        ids = [a["id"] for _, a in self.elements if "id" in a]
        assert len(ids) == len(set(ids))
        targets = [a["href"] or "" for a in self.all("a")]
        assert all(t[1:] in ids for t in targets if t.startswith("#"))
        head = self.all("meta")
        assert any(a.get("name") == "viewport" for a in head)
        assert "prefers-color-scheme: dark" in self.source
