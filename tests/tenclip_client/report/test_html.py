from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_client.report.html import Markup, join, tag


def test_text_is_escaped_and_markup_is_not() -> None:
    assert tag("p", "1 < 2 & ", tag("b", "<i>")) == "<p>1 &lt; 2 &amp; <b>&lt;i&gt;</b></p>"


def test_attributes() -> None:
    assert tag("a", class_="x", stroke_width=1.5, viewBox="0 0", hidden=True, id=None, title='"<') == (
        '<a class="x" stroke-width="1.5" viewBox="0 0" hidden title="&quot;&lt;"></a>'
    )


def test_children_may_be_nested_iterables_numbers_and_none() -> None:
    assert join(1, None, ["a", (tag("b", c) for c in "xy")], 2.5) == "1a<b>x</b><b>y</b>2.5"


class Text(HTMLParser):
    """Gathers the text of a page and its elements."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.elements, self.values = "", list[str](), list[str | None]()

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.values += [value for _, value in attrs]


@given(st.text(st.characters(exclude_categories=["Cc", "Cn", "Cs"])))
def test_no_text_ever_becomes_markup(text: str) -> None:
    parser = Text()
    parser.feed(tag("p", text, title=text))
    parser.close()
    assert parser.elements == ["p"]
    assert parser.text == text
    assert parser.values == [text]


def test_a_plain_string_does_not_pass_for_markup() -> None:
    assert not isinstance("<b>", Markup)
    assert join("<b>") == "&lt;b&gt;"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none(value: float) -> None:
    assert str(value) in tag("g", x=value)
