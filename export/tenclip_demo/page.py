"""The demo's page: a `Report` as one HTML file with everything in it, readable in ten years and without a network."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from importlib import resources
from string import Template

from tenclip_demo import svg
from tenclip_demo.html import Markup, join, tag
from tenclip_demo.report import Count, ProbeFacts, Report, VideoCard
from tenclip_demo.served import SALIENT_CLIPS


def render_page(report: Report) -> str:
    """The whole page. All text of the report is escaped."""
    template = resources.files("tenclip_demo").joinpath("report.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=tag("title", report.title)[len("<title>") : -len("</title>")],
        header=_header(report),
        body=join(
            _videos(report),
            _accuracy(report),
            _training(report),
            _probe(report),
            _serving(report),
            _parity(report),
            _stages(report),
            _go_on(report),
        ),
        footer=_footer(report),
    )


def percent(count: Count) -> str:
    return "none" if count.value is None else f"{count.value:.1%}"


def of(count: Count) -> str:
    return f"{count.correct} of {count.total}"


def seconds(value: float) -> str:
    """0.4 ms, 12 ms, 3.4 s, 5 min 12 s."""
    if value < 0.01:
        return f"{value * 1000:.1f} ms"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 100:
        return f"{value:.1f} s"
    return f"{int(value // 60)} min {int(value % 60)} s"


# -- parts of the page, in its order --


def _header(report: Report) -> Markup:
    data, evaluation, server = report.data, report.evaluation, report.server
    probe = report.probes[0]
    figures = (
        ("video top-1", percent(evaluation.video_top1), f"{of(evaluation.video_top1)} held-out videos"),
        ("video top-5", percent(evaluation.video_top5), f"{of(evaluation.video_top5)}, {len(data.classes)} classes"),
        (f"probe: {probe.label_set}", percent(probe.accuracy), f"{of(probe.accuracy)}; chance {probe.chance:.1%}"),
        ("request, median", seconds(server.p50), f"p95 {seconds(server.p95)}, {len(server.latencies)} requests"),
        ("all stages", seconds(sum(s.seconds for s in report.stages)), report.machine),
    )
    return join(
        tag("h1", report.title),
        tag(
            "p",
            f"{data.description} A {report.training.architecture} with {report.training.parameters:,} parameters "
            f"learned {len(data.classes)} classes from {data.train_videos} videos, was exported and served over gRPC, "
            f"and saw the {data.held_out_videos} held-out videos for the first time below.",
            class_="lead",
        ),
        tag("dl", (tag("div", tag("dt", n), tag("dd", v, tag("small", s))) for n, v, s in figures), class_="figures"),
        _banner(report),
    )


def _banner(report: Report) -> Markup:
    if report.quick:
        words = (
            "Too little training to learn anything: it shows that all parts work together; its figures mean nothing."
        )
        return tag("p", tag("b", "A quick run. "), words, class_="banner bad")
    if report.required is None:
        return tag("p", "No accuracy was required of these videos; the figures are what they are.", class_="banner")
    verdict = "Passed. " if report.passed else "Failed. "
    top1 = report.evaluation.video_top1
    words = f"Video top-1 is {percent(top1)} ({of(top1)}); the demo asks for at least {report.required:.0%}."
    return tag("p", tag("b", verdict), words, class_="banner good" if report.passed else "banner bad")


def _videos(report: Report) -> Markup:
    groups = dict.fromkeys(card.group for card in report.cards)
    return join(
        tag("h2", "Videos through the server"),
        tag(
            "p",
            "Each was sent to the running server as a file. The cells are the scores of clips along its time: the "
            "fuller the colour, the higher the probability; green is the true class. The band below is "
            "salience, the server's estimate from motion alone of which moments are worth a look. The verdict is that "
            f"of the whole video by the protocol “{report.server.protocol}”; beside it, for some, that of the "
            f"{SALIENT_CLIPS} most salient clips.",
            class_="note",
        ),
        (
            join(tag("h3", group) if len(groups) > 1 else None, [_card(c) for c in report.cards if c.group == group])
            for group in groups
        ),
        _failed(report),
    )


def _card(card: VideoCard) -> Markup:
    images = [
        tag("img", src=f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}", alt="")
        for jpeg in card.thumbnails
    ]
    return tag(
        "article",
        tag("div", tag("h3", card.name), _verdict(card), class_="head"),
        tag("p", card.facts, class_="facts"),
        tag(
            "div",
            tag("div", images, class_="strip", role="img", aria_label=f"{len(images)} frames of {card.name}"),
            svg.timeline(card),
            class_="film",
        ),
        (tag("p", f"Decoder: {warning}", class_="facts") for warning in card.warnings),
        class_="card",
    )


def _verdict(card: VideoCard) -> Markup:
    label, score = card.top[0]
    whole = _judged(label, score, card.truth)
    if card.salient is None:
        return tag("span", whole, _runners_up(card), class_="verdict")
    return tag(
        "span", "uniform clips ", whole, _runners_up(card), " · salient clips ", _judged(*card.salient, card.truth),
        class_="verdict",
    )  # fmt: skip


def _judged(label: str, score: float, truth: str | None) -> Markup:
    """Right and wrong are said by a sign and a word, not by colour alone."""
    if truth is None:
        return join(tag("b", label), f" {score:.0%}")
    if label == truth:
        return join(tag("span", f"✓ {label}", class_="right"), f" {score:.0%}")
    return join(tag("span", f"✗ {label}", class_="wrong"), f" {score:.0%}, truly {truth}")


def _runners_up(card: VideoCard) -> str:
    return "" if card.truth is not None else "".join(f", {name} {score:.0%}" for name, score in card.top[1:3])


def _failed(report: Report) -> Markup | None:
    if not report.failed_videos:
        return None
    rows = [(f.name, f.reason, f.message) for f in report.failed_videos]
    return join(tag("h3", "Not predicted"), table(("video", "error", "what the server says"), rows))


def _accuracy(report: Report) -> Markup:
    evaluation = report.evaluation
    words = (
        f"{percent(evaluation.video_top1)} of the held-out videos are right ({of(evaluation.video_top1)}; split "
        f"“{evaluation.split}”, protocol “{evaluation.protocol}”). Of single clips, {percent(evaluation.clip_top1)} "
        f"are ({of(evaluation.clip_top1)}). None of these videos was used in training, nor to choose a checkpoint."
    )
    parts: list[object] = [tag("h2", "Held-out accuracy"), tag("p", words, class_="note")]
    if evaluation.confusion is not None:
        title = "Confusion matrix of held-out videos"
        missed = [
            f"{evaluation.labels[i]} as {evaluation.labels[j]} ({count})"
            for i, row in enumerate(evaluation.confusion)
            for j, count in enumerate(row)
            if i != j and count
        ]
        description = f"Errors: {', '.join(missed)}" if missed else "No errors: every count is on the diagonal"
        drawing = svg.confusion(title, description, evaluation.labels, evaluation.confusion)
        caption = "True classes in rows, predicted ones in columns; a full cell is all videos of its row."
        parts.append(tag("figure", drawing, tag("figcaption", caption)))
    if report.data.skipped:
        parts.append(
            tag(
                "details",
                tag("summary", f"{len(report.data.skipped)} videos could not be read"),
                table(("video", "reason"), report.data.skipped),
            )
        )
    return join(*parts)


def _training(report: Report) -> Markup:
    curve = report.training.curve
    heading = join(
        tag("h2", "Training"),
        tag("p", f"{report.training.architecture} from random weights. Input: {report.training.clip}.", class_="note"),
    )
    if not curve:
        return heading
    validated = [e for e in curve if e.val_top1 is not None and e.val_loss is not None]
    loss = [
        ("training", "accent", [(float(e.epoch), e.loss) for e in curve]),
        ("validation", "second", [(float(e.epoch), e.val_loss or 0.0) for e in validated]),
    ]
    top1 = [
        ("clips", "accent", [(float(e.epoch), e.train_top1) for e in curve]),
        ("val. videos", "second", [(float(e.epoch), e.val_top1 or 0.0) for e in validated]),
    ]
    last = curve[-1]
    loss_words = f"Cross entropy falls from {curve[0].loss:.2f} to {last.loss:.2f} over {len(curve)} epochs."
    top1_words = f"Top-1 of training clips ends at {last.train_top1:.1%}" + (
        f", of validation videos at {validated[-1].val_top1:.1%}." if validated else "."
    )
    return join(
        heading,
        tag(
            "div",
            _figure(svg.lines("Loss", loss_words, loss, x_label="epoch", y_format=lambda v: f"{v:g}"), loss_words),
            _figure(
                svg.lines(
                    "Top-1", top1_words, top1, x_label="epoch", y_format=lambda v: f"{v:.0%}", y_range=(0.0, 1.0)
                ),
                top1_words,
            ),
            class_="two",
        ),
    )


def _probe(report: Report) -> Markup:
    first = report.probes[0]
    rows = [
        (
            p.label_set,
            f"{len(p.classes)}: {', '.join(p.classes)}",
            number(percent(p.accuracy)),
            number(of(p.accuracy)),
            number(f"{p.chance:.1%}"),
            meter(p.accuracy.value or 0.0),
        )
        for p in report.probes
    ]
    heads = ("label set", "classes", number("accuracy"), number("videos"), number("chance"), "")
    return join(
        tag("h2", "Linear probe on served features"),
        tag("p", f"{first.description} {_probe_words(first)}", class_="note"),
        table(heads, rows, caption="Chance: the share of the most frequent class among the videos counted."),
    )


def _probe_words(probe: ProbeFacts) -> str:
    return (
        f"Features came from the server ({probe.train_videos} videos to fit); a regularised logistic regression on "
        f"them is right on {of(probe.accuracy)}. The network itself never saw these labels."
    )


def _serving(report: Report) -> Markup:
    server = report.server
    milliseconds = [1000 * s for s in server.latencies]
    words = (
        f"{len(server.latencies)} requests one after another, each with its video file: median {seconds(server.p50)}, "
        f"95th percentile {seconds(server.p95)}. The served class is torch's on {of(server.agreement)} videos."
    )
    marks = (("p50", 1000 * server.p50), ("p95", 1000 * server.p95))
    longest = max((s for _, s in server.stage_seconds), default=0.0) or 1.0
    rows = [(name, number(seconds(s)), meter(s / longest)) for name, s in server.stage_seconds]
    return join(
        tag("h2", "Server"),
        tag("p", f"Runtime: {server.runtime} ({server.runtime_reason}).", class_="note"),
        tag(
            "div",
            _figure(svg.histogram("Latency", words, milliseconds, marks, x_label="milliseconds"), words),
            table(("stage", number("median"), ""), rows, caption="Where the time of a request goes, on the server."),
            class_="two",
        ),
    )


def _parity(report: Report) -> Markup:
    rows = [
        (
            row.runtime,
            row.variant,
            number(f"{row.crop}"),
            number(str(row.num_clips)),
            number(f"{row.max_abs:.1e}"),
            number(f"{row.relative_l2:.1e}"),
            number(f"{row.features_relative_l2:.1e}"),
            number(f"{row.top1_agreement:.0%}"),
            "passes" if row.passed else "fails",
        )
        for row in report.parity
    ]
    heads = (
        "runtime", "variant", number("crop"), number("clips"), number("max abs"), number("logits"), number("features"),
        number("same top-1"), "",
    )  # fmt: skip
    allowed = report.tolerance
    caption = (
        f"Relative L2 distance; allowed are {allowed.logits:.0e} for logits and {allowed.features:.0e} for features."
    )
    return join(
        tag("h2", "Runtimes against torch"),
        tag(
            "p",
            "The exported graph on golden clips, as the server runs it, and the same clips in torch.",
            class_="note",
        ),
        table(heads, rows, caption=caption),
    )


def _stages(report: Report) -> Markup:
    longest = max(s.seconds for s in report.stages) or 1.0
    rows = [
        (
            join(s.title, " (from an earlier run)" if s.reused else ""),
            number(seconds(s.seconds)),
            meter(s.seconds / longest),
        )
        for s in report.stages
    ]
    return join(tag("h2", "Stages"), table(("stage", number("time"), ""), rows, caption=report.machine))


def _go_on(report: Report) -> Markup | None:
    if not report.commands:
        return None
    return join(tag("h2", "Go on from here"), tag("pre", tag("code", "\n".join(report.commands))))


def _footer(report: Report) -> Markup:
    versions = ", ".join(f"{name} {version}" for name, version in report.versions)
    return tag("p", f"{report.data.source}. Seed {report.seed}. {versions}. {report.machine}.")


# -- small things --


class Number(str):
    """A cell that is a figure: aligned to the right."""

    __slots__ = ()


def number(text: str) -> Number:
    return Number(text)


def meter(part: float) -> Markup:
    """A bar beside a figure that is written out in its row."""
    return tag("span", style=f"width:{100 * min(max(part, 0.0), 1.0):.1f}%", class_="meter", aria_hidden="true")


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], caption: str | None = None) -> Markup:
    """Rows may hold text, `number(...)` and markup. The first cell of each row is its heading."""

    def kind(value: object) -> str | None:
        if isinstance(value, Number):
            return "number"
        return "meters" if isinstance(value, Markup) and "meter" in value else None

    head = tag("tr", (tag("th", h, scope="col", class_=kind(h)) for h in heads))
    body = [
        tag("tr", tag("th", first, scope="row"), (tag("td", value, class_=kind(value)) for value in rest))
        for first, *rest in rows
    ]
    return tag(
        "div",
        tag("table", tag("caption", caption) if caption else None, tag("thead", head), tag("tbody", body)),
        class_="scroll",
    )


def _figure(drawing: Markup, caption: str) -> Markup:
    return tag("figure", drawing, tag("figcaption", caption))
