"""`--report` of the commands: what is asked for a report, and where it is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from tenclip_client._types import ModelInfo
    from tenclip_client.report.writer import Report

# Of each video.
NUM_PICTURES = 12


def pictured(path: Path | None) -> dict[str, Any]:
    """What a prediction is asked beyond its options, so that a report can show it."""
    return {} if path is None else {"clip_scores": True, "timeline": True, "thumbnails": NUM_PICTURES}


@contextmanager
def reported(
    path: Path | None, names: Sequence[str], title: str, settings: dict[str, Any], model: str
) -> Iterator[Report | None]:
    """The report of a command, None without --report. At its end a line on standard error says where it is.

    names: of the videos. title: what a page of several begins with. settings: of the client, which is asked what the
    model is.
    """
    if path is None:
        yield None
        return
    from tenclip_client.report.writer import report_to

    with report_to(path, names, title, _model(settings, model)) as report:
        yield report
    done = f"{path} ({report.num_done} of {len(names)} videos)" if report.num_done else "none: nothing was asked for"
    typer.echo(f"report: {done}", err=True)


def _model(settings: dict[str, Any], model: str) -> ModelInfo | None:
    """None where the server does not say: then the command will say why, or the answers come without."""
    from tenclip_api.errors import TenclipError
    from tenclip_client import Client

    try:
        with Client(**settings) as client:
            return client.get_model(model)
    except TenclipError:
        return None
