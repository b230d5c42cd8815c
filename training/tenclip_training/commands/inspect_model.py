"""`tenclip inspect-model`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tenclip_settings import with_option_groups
from tenclip_training.commands.options import (
    VIDEOS,
    DeviceOptions,
    Json,
    ManifestOptions,
    print_json,
    usage_errors,
)

if TYPE_CHECKING:
    from tenclip_training.inspection.page import InspectedModel


@with_option_groups
def inspect_model(
    *,
    checkpoints: Annotated[
        list[Path], typer.Argument(help="Checkpoints, ours or public ones, side by side.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page, an HTML file.", show_default=False)],
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="Labelled videos whose features are shown by class.", show_default=False, rich_help_panel=VIDEOS
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Of the manifest.", show_default="all videos", rich_help_panel=VIDEOS)
    ] = None,
    features: Annotated[
        list[Path] | None,
        typer.Option(
            help="Features of these videos, as tenclip features writes them, of the one checkpoint that is named.",
            show_default="made by the network itself",
            rich_help_panel=VIDEOS,
        ),
    ] = None,
    classes: Annotated[int, typer.Option(min=2, help="Most classes to show; drawn at random if there are more.")] = 10,
    protocol: Annotated[str, typer.Option(help="Clips that features are made of.")] = "center-clip",
    family: Annotated[
        str | None, typer.Option(help="Family of a public checkpoint.", show_default="as its weights tell")
    ] = None,
    videos: ManifestOptions,
    device: DeviceOptions,
    json: Json = False,
) -> None:
    """Show a network's first kernels over time, and its features by class.

    The page has the kernels of the first layer, frame by frame, with a number
    for how much they vary over time (0 where a network of frames was
    inflated). With --manifest it has a map of the videos (t-SNE), coloured by
    class, and the nearest neighbours of some.

    \b
    Examples:
      tenclip inspect-model run/student.pt --out page.html
      tenclip inspect-model run/student.pt inflated.pt --out page.html
      tenclip inspect-model run/last.pt --out p.html --manifest hmdb.csv --split train
      tenclip inspect-model run/last.pt --out p.html --manifest hmdb.csv --features f.parquet
    """
    from tenclip_api.errors import InvalidRequest
    from tenclip_training.inspection.page import write_page

    with usage_errors():
        if features and (manifest is None or len(checkpoints) != 1):
            raise InvalidRequest("--features needs --manifest, which has the labels, and one checkpoint")
        if split is not None and manifest is None:
            raise InvalidRequest("--split is of --manifest")
        _check_out(out)
        models = [
            _inspect(path, family, manifest, split, features or [], classes, protocol, videos, device)
            for path in checkpoints
        ]
        try:
            write_page(out, models)
        except OSError as err:
            raise InvalidRequest(f"{out}: cannot be written: {err.strerror or err}") from err
    if json:
        print_json({"page": str(out), "models": [model.facts() for model in models]})
        return
    for model in models:
        _print(model)
    typer.echo(f"wrote {out}")


def _check_out(out: Path) -> None:
    """Raise InvalidRequest where the page could not be written: before features are made, which may take hours."""
    import os

    from tenclip_api.errors import InvalidRequest

    folder = out.absolute().parent
    if out.is_dir():
        raise InvalidRequest(f"{out}: cannot be written: it is a folder; name a file, such as {out / 'page.html'}")
    if not folder.is_dir():
        raise InvalidRequest(f"{out}: cannot be written: there is no folder {folder}; make it, or name another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidRequest(f"{out}: cannot be written: nothing may be written to the folder {folder}")


def _inspect(
    path: Path,
    family: str | None,
    manifest: Path | None,
    split: str | None,
    features: list[Path],
    classes: int,
    protocol: str,
    options: ManifestOptions,
    device: DeviceOptions,
) -> InspectedModel:
    from tenclip_training.console import reporting
    from tenclip_training.inspection.embedding import embed
    from tenclip_training.inspection.features import features_of_network, features_of_table
    from tenclip_training.inspection.kernels import first_kernels
    from tenclip_training.inspection.page import InspectedModel
    from tenclip_training.loaders import load_any
    from tenclip_training.loaders.any import is_own

    loaded = load_any(path, family=family, features_only=not is_own(path))
    kernels, over_time = first_kernels(loaded.model)
    embedding, source, left_out = None, "", 0
    if manifest is not None:
        labelled = options.read(manifest, hold_out=False)
        if features:
            found = features_of_table(features, labelled, split)
        else:
            part = labelled if split is None else labelled.split(split)
            with reporting() as reporter:
                found = features_of_network(
                    loaded,
                    part,
                    protocol=protocol,
                    device=str(device.choose_device()),
                    threads=device.threads(),
                    progress=lambda done, total: reporter.update(f"features of {path.name}", done, total, "videos"),
                )
        embedding, source, left_out = embed(found, classes=classes, seed=options.seed), found.source, found.left_out
    return InspectedModel(
        name=str(path),
        architecture=loaded.model.architecture,
        parameters=sum(p.numel() for p in loaded.model.parameters()),
        classes=loaded.model.num_classes,
        kernels=kernels,
        over_time=over_time,
        embedding=embedding,
        features_from=source,
        left_out=left_out,
    )


def _print(model: InspectedModel) -> None:
    measured = model.over_time or model.kernels
    typer.echo(
        f"{model.name}: {model.architecture}; {measured.name}, {measured.shape_in_words}: variance over time "
        f"{measured.temporal_variance:.3g}, {measured.temporal_share:.1%} of the mean square"
    )
    if model.embedding is not None:
        silhouette = "" if model.embedding.silhouette is None else f", silhouette {model.embedding.silhouette:.3f}"
        left_out = f"; {model.left_out} videos without features" if model.left_out else ""
        typer.echo(
            f"{len(model.embedding.names)} videos of {len(model.embedding.classes)} classes: nearest neighbour of the "
            f"same class {model.embedding.neighbour_accuracy:.1%} (blindly {model.embedding.chance:.1%}){silhouette}"
            f"{left_out}"
        )
