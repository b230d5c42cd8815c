"""The demo's page: a `Report` as one HTML file with everything in it, readable in ten years and without a network.

The words and their order are in `templates/`, a file for each part of the page; here are the figures in words and the
charts that they need.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jinja2

from tenclip_client.report.html import Markup
from tenclip_client.report.page import style
from tenclip_client.report.words import data_url, seconds
from tenclip_demo import svg
from tenclip_demo.report import Count, Epoch, Evaluation, Report, ServerFacts, VideoCard
from tenclip_demo.served import SALIENT_CLIPS


def render_page(report: Report) -> str:
    """The whole page. All text of the report is escaped."""
    groups: dict[str, list[VideoCard]] = {}
    for card in report.cards:
        groups.setdefault(card.group, []).append(card)
    return (
        _environment()
        .get_template("report.html")
        .render(
            base_style=style(),
            report=report,
            groups=groups,
            salient_clips=SALIENT_CLIPS,
            confusion_chart=_confusion_chart(report.evaluation),
            training_charts=_training_charts(report.training.curve),
            latency_chart=_latency_chart(report.server),
        )
    )


# -- figures in words --


def percent(count: Count) -> str:
    return "none" if count.value is None else f"{count.value:.1%}"


def of(count: Count) -> str:
    return f"{count.correct} of {count.total}"


# -- charts --


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawing, and what it shows in words."""

    drawing: Markup
    caption: str


def _confusion_chart(evaluation: Evaluation) -> Markup | None:
    """None for videos of several labels, which have no confusion matrix."""
    if evaluation.confusion is None:
        return None
    missed = [
        f"{evaluation.labels[i]} as {evaluation.labels[j]} ({count})"
        for i, row in enumerate(evaluation.confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    description = f"Errors: {', '.join(missed)}" if missed else "No errors: every count is on the diagonal"
    return svg.confusion("Confusion matrix of held-out videos", description, evaluation.labels, evaluation.confusion)


def _training_charts(curve: tuple[Epoch, ...]) -> list[Chart]:
    """Loss and top-1 over the epochs; nothing where no epoch was recorded."""
    return [_loss_chart(curve), _top1_chart(curve)] if curve else []


def _loss_chart(curve: tuple[Epoch, ...]) -> Chart:
    series = [
        ("training", "accent", [(float(e.epoch), e.loss) for e in curve]),
        ("validation", "second", [(float(e.epoch), e.val_loss) for e in curve if e.val_loss is not None]),
    ]
    words = f"Cross entropy falls from {curve[0].loss:.2f} to {curve[-1].loss:.2f} over {len(curve)} epochs."
    return Chart(drawing=svg.lines("Loss", words, series, x_label="epoch", y_format=lambda v: f"{v:g}"), caption=words)


def _top1_chart(curve: tuple[Epoch, ...]) -> Chart:
    validated = [(float(e.epoch), e.val_top1) for e in curve if e.val_top1 is not None]
    series = [
        ("clips", "accent", [(float(e.epoch), e.train_top1) for e in curve]),
        ("val. videos", "second", validated),
    ]
    words = f"Top-1 of training clips ends at {curve[-1].train_top1:.1%}"
    words += f", of validation videos at {validated[-1][1]:.1%}." if validated else "."
    drawing = svg.lines("Top-1", words, series, x_label="epoch", y_format=lambda v: f"{v:.0%}", y_range=(0.0, 1.0))
    return Chart(drawing=drawing, caption=words)


def _latency_chart(server: ServerFacts) -> Chart:
    words = (
        f"{len(server.latencies)} requests one after another, each with its video file: median {seconds(server.p50)}, "
        f"95th percentile {seconds(server.p95)}. The served class is torch's on {of(server.agreement)} videos."
    )
    marks = (("p50", 1000 * server.p50), ("p95", 1000 * server.p95))
    milliseconds = [1000 * s for s in server.latencies]
    return Chart(drawing=svg.histogram("Latency", words, milliseconds, marks, x_label="milliseconds"), caption=words)


@functools.cache
def _environment() -> jinja2.Environment:
    """Templates with our filters. A name that a template misspells is an error, not an empty place."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tenclip_demo"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "of": of,
        "seconds": seconds,
        "whole_percent": "{:.0%}".format,
        "tenth_percent": "{:.1%}".format,
        "data_url": data_url,
        "timeline": svg.timeline,
    }
    return environment
