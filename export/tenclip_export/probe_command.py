"""`tenclip export-probe`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tenclip_export.parity import Row


def export_probe(
    probe: Annotated[
        Path, typer.Argument(help="PROBE.npz and PROBE.json, as tenclip probe --out wrote them.", show_default=False)
    ],
    bundle: Annotated[
        Path,
        typer.Argument(help="Folder NAME/VERSION of the bundle whose features it was fitted on.", show_default=False),
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the new model.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of bundles to write into: OUT/NAME/VERSION.", show_default="where the bundle is"),
    ] = None,
    version: Annotated[str | None, typer.Option(help="Its version.", show_default="the next free integer")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the version if it exists.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Give a bundle a fitted probe as its classifier, so that it is served.

    The new bundle answers the probe's labels with the probe's probabilities: pooled, and fully-convolutional at every
    position. Its golden outputs and parity are made anew and checked on every installed runtime. It has the float32
    graph alone.

    \b
    Examples:
      tenclip export-probe speed.npz models/moves/1 --name moves-speed
      tenclip serve models
    """
    from rich.console import Console

    from tenclip_api.errors import ParityError
    from tenclip_export import probe_head
    from tenclip_export.console import Steps
    from tenclip_export.tables import print_export
    from tenclip_features.probe_files import load_probe
    from tenclip_video.bundle import read_bundle

    rows: list[Row] = []
    with Steps(Console(stderr=True)) as steps:
        steps.step(f"reading {bundle}")
        source = read_bundle(bundle)
        try:
            written = probe_head.export_probe(
                load_probe(probe),
                source,
                out if out is not None else _folder_of_models(bundle),
                name=name,
                version=version,
                overwrite=overwrite,
                provenance=_about(probe),
                progress=steps.step,
                on_row=rows.append,
            )
        except ParityError:
            steps.close()
            print_export(None, rows, json=json)
            raise
    print_export(written, rows, (), json=json)


def _folder_of_models(bundle: Path) -> Path:
    """The folder that a bundle's NAME/VERSION lies in."""
    spelled_out = len(bundle.parts) > 1 and ".." not in bundle.parts
    return (bundle if spelled_out else bundle.resolve()).parent.parent


def _about(probe: Path) -> dict[str, Any]:
    """Facts of the probe's own file: how it was fitted and counted."""
    from tenclip_features.probe_files import read_facts

    values = read_facts(probe)
    kept = ("C", "fit_on", "train_videos", "test_videos", "video_mean_features", "mean", "std")
    return {"file": probe.name, **{k: values[k] for k in kept if k in values}}
