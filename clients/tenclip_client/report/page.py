"""Whole pages: of one video, of several, and the list of a folder's pages."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.resources
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tenclip_client.report.html import Markup, breakable, join, tag
from tenclip_client.report.section import Section
from tenclip_client.report.words import counted

# Nothing is fetched and nothing runs, whatever might have got past the escaping.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of a list of videos. link: of its page or section. words: its result, or why there is none."""

    name: str
    link: str
    words: str
    failed: bool


def video_page(part: Section) -> Iterable[Markup]:
    """The page of one video, in pieces."""
    yield opening(part.name)
    yield tag("header", tag("h1", breakable(part.name)))
    yield Markup("<main>")
    yield part.body
    yield closing()


def head_of_many(title: str, entries: Sequence[Entry]) -> Markup:
    """What comes before the sections of a page of several videos: what they are, and a list of them."""
    return join(opening(title), tag("header", tag("h1", title)), Markup("<main>"), list_of_videos(entries))


def section_of_many(part: Section, anchor: str) -> Markup:
    """One of the sections of a page of several videos."""
    return tag(
        "section",
        tag("h2", breakable(part.name), id=anchor),
        part.body,
        tag("p", tag("a", "Back to the list", href="#videos"), class_="note"),
    )


def index_page(title: str, entries: Sequence[Entry]) -> Iterable[Markup]:
    """The list of the pages of a folder."""
    yield head_of_many(title, entries)
    yield closing()


def list_of_videos(entries: Sequence[Entry]) -> Markup:
    """A table of the videos, with links and their results."""
    failed = sum(entry.failed for entry in entries)
    words = counted(len(entries), "video") + (f", {failed} of which failed" if failed else "")
    rows = (
        tag(
            "tr",
            tag("th", tag("a", breakable(e.name), href=e.link), scope="row"),
            tag("td", breakable(e.words), class_="wrong" if e.failed else None),
        )
        for e in entries
    )
    heads = (tag("th", head, scope="col") for head in ("video", "result"))
    table = tag("table", tag("caption", words), tag("thead", tag("tr", *heads)), tag("tbody", *rows), class_="videos")
    return tag("div", table, class_="scroll", id="videos")


def opening(title: str) -> Markup:
    """All up to the page's own content."""
    return join(
        Markup('<!doctype html>\n<html lang="en">\n'),
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name_="color-scheme", content="light dark"),
            tag("title", title),
            tag("style", style()),
        ),
        Markup("\n<body>\n"),
    )


def closing() -> Markup:
    """All after the page's own content."""
    version = importlib.metadata.version("tenclip")
    return join(
        Markup("</main>\n"),
        tag("footer", tag("p", f"Written by tenclip {version}. Scores of salience compare within one video only.")),
        Markup("\n</body>\n</html>\n"),
    )


@functools.cache
def style() -> Markup:
    """The style sheet, which is part of every page."""
    return Markup(importlib.resources.files("tenclip_client.report").joinpath("style.css").read_text("utf-8"))
