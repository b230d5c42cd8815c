"""`tenclip add-sampler`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenclip_training.commands.options import Json, print_json
from tenclip_training.commands.sampler_options import rule_words

if TYPE_CHECKING:
    from tenclip_training.sampler.bundles import Added


def add_sampler(
    *,
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle, NAME/VERSION.")],
    sampler: Annotated[
        Path, typer.Argument(help="Folder of tenclip train-sampler, a sampler's ONNX file, or a bundle that has one.")
    ],
    audio: Annotated[
        Path | None,
        typer.Option(help="A sampler of kind audio beside it: file or folder.", show_default=False),
    ] = None,
    audio_clips: Annotated[
        int, typer.Option(min=0, help="How many of the clips are chosen by sound.", show_default=False)
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Write a copy of the bundle here, NAME/VERSION, and leave it as it is.", show_default=False),
    ] = None,
    keep_default_protocol: Annotated[
        bool, typer.Option("--keep-default-protocol", help="Do not make salient-clips the default protocol.")
    ] = False,
    json: Json = False,
) -> None:
    """Give a bundle a sampler, so that it predicts from salient clips.

    The sampler's clips must be as long as the network's. The stopping rule of
    adaptive prediction and the temperature come along from the folder of
    tenclip train-sampler, if the bundle is the network that it learned from.
    A server that watches the bundle sees it before or after, never between.

    \b
    Examples:
      tenclip add-sampler models/moves/1 sampler
      tenclip add-sampler models/moves/1 sampler --out models/moves/2
      tenclip add-sampler models/moves/1 sampler --audio sound --audio-clips 3
      tenclip add-sampler models/other/1 models/moves/2 --keep-default-protocol
    """
    from tenclip_training.sampler.bundles import add_sampler as add

    added = add(
        bundle,
        sampler,
        audio=audio,
        audio_clips=audio_clips,
        out=out,
        keep_default_protocol=keep_default_protocol,
    )
    if json:
        print_json(_values(added))
        return
    for note in added.notes:
        typer.echo(note, err=True)
    info = added.bundle.info
    assert info.sampler is not None
    typer.echo(f"{added.bundle.path}: sampler {', '.join(info.sampler.files)}; protocol {info.default_protocol}")
    for rule in info.sampler.rules:
        typer.echo(f"adaptive{' (default)' if rule is info.sampler.stopping else ''}, {rule_words(rule)}")


def _values(added: Added) -> dict[str, Any]:
    info = added.bundle.info.to_dict()
    return {
        "bundle": str(added.bundle.path),
        "notes": list(added.notes),
        **{key: info[key] for key in ("name", "version", "default_protocol", "sampler", "calibration")},
    }
