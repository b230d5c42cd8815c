"""`tenclip train`, `tenclip evaluate` and `tenclip synth`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tenclip_data.manifest import Manifest
    from tenclip_training.console import Reporter
    from tenclip_training.runs.config import TrainConfig
    from tenclip_training.runs.train import Progress, TrainResult
    from tenclip_training.synth.command import synth
    from tenclip_video.spec import ClipSpec

__all__ = ["train", "evaluate", "synth"]


def __getattr__(name: str) -> Any:
    """`synth` when it is asked for: its package needs PyAV."""
    if name == "synth":
        from tenclip_training.synth.command import synth

        return synth
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_DATA, _CLIPS, _MODEL = "Videos", "Clips", "Model"
_OPTIMISATION, _MACHINE = "Optimisation", "Machine"
INTERRUPTED = 130

_Videos = Annotated[
    Path | None,
    typer.Option(help="Folder that relative paths start from.", show_default="the manifest's", rich_help_panel=_DATA),
]
_LabelColumn = Annotated[
    str | None,
    typer.Option(help="Column of the table to take labels from.", show_default="label", rich_help_panel=_DATA),
]
_WholeVideos = Annotated[
    bool, typer.Option("--whole-videos", help="Ignore the start and end of each row.", rich_help_panel=_DATA)
]
_KeepMissing = Annotated[
    bool,
    typer.Option("--keep-missing", help="Count videos that are not there as unreadable.", rich_help_panel=_DATA),
]
_HeldOut = Annotated[
    float,
    typer.Option(help="Part of each class that becomes split val where there are no splits.", rich_help_panel=_DATA),
]
_Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ... or auto.", rich_help_panel=_MACHINE)]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def train(
    manifest: Annotated[
        Path | None,
        typer.Argument(
            help="A .csv or .parquet, a folder of class-named sub-folders, a UCF-101, HMDB-51 or Kinetics list.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run.", show_default=False)] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the run in this folder; takes no other options.", show_default=False)
    ] = None,
    videos: _Videos = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="File with the classes in order, one a line.", show_default="sorted", rich_help_panel=_DATA),
    ] = None,
    label_column: _LabelColumn = None,
    train_split: Annotated[str, typer.Option(help="Split to train on.", rich_help_panel=_DATA)] = "train",
    val_split: Annotated[
        str | None,
        typer.Option(help="Split to validate on.", show_default="val, else test, else none", rich_help_panel=_DATA),
    ] = None,
    held_out: _HeldOut = 0.2,
    whole_videos: _WholeVideos = False,
    keep_missing: _KeepMissing = False,
    max_failures: Annotated[
        float, typer.Option(help="Part of the videos that may be unreadable.", rich_help_panel=_DATA)
    ] = 0.1,
    frames: Annotated[
        int | None, typer.Option(help="Frames in a clip.", show_default="16", rich_help_panel=_CLIPS)
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="Take every n-th frame.", show_default="1", rich_help_panel=_CLIPS)
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(help="Resample videos to this rate first.", show_default="their own", rich_help_panel=_CLIPS),
    ] = None,
    resize: Annotated[
        str | None,
        typer.Option(help="HEIGHTxWIDTH, or a short edge.", show_default="128x171", rich_help_panel=_CLIPS),
    ] = None,
    crop: Annotated[
        int | None, typer.Option(help="Side of the square crop.", show_default="112", rich_help_panel=_CLIPS)
    ] = None,
    flip: Annotated[
        bool | None,
        typer.Option(
            help="Mirror half of the clips.",
            show_default="yes, unless a class names a direction",
            rich_help_panel=_CLIPS,
        ),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            help="Random resized crop: least-most part of the short side, e.g. 0.6-1.",
            show_default="a random crop of the frame as it is",
            rich_help_panel=_CLIPS,
        ),
    ] = None,
    color_jitter: Annotated[
        float, typer.Option(help="Vary brightness, contrast and saturation by this part.", rich_help_panel=_CLIPS)
    ] = 0.0,
    clips_per_video: Annotated[
        int, typer.Option(help="Random clips of each video in an epoch.", rich_help_panel=_CLIPS)
    ] = 1,
    architecture: Annotated[
        str, typer.Option("--architecture", "-a", help="Name of the network.", rich_help_panel=_MODEL)
    ] = "r2plus1d_18",
    width: Annotated[
        int | None,
        typer.Option(help="Planes of its first layer.", show_default="the architecture's", rich_help_panel=_MODEL),
    ] = None,
    model_option: Annotated[
        list[str] | None,
        typer.Option(help="Further NAME=JSON of the architecture, e.g. bn_eps=1e-5.", rich_help_panel=_MODEL),
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint to fine-tune, ours or a public one; brings its architecture and clips.",
            show_default="random weights",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    init_family: Annotated[
        str | None,
        typer.Option(help="Family of a public checkpoint.", show_default="as its weights tell", rich_help_panel=_MODEL),
    ] = None,
    epochs: Annotated[int, typer.Option(rich_help_panel=_OPTIMISATION, help="Passes over the videos.")] = 45,
    batch_size: Annotated[
        int, typer.Option("--batch-size", "-b", help="Clips of one process.", rich_help_panel=_OPTIMISATION)
    ] = 16,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", "--lr", help="At its peak.", rich_help_panel=_OPTIMISATION)
    ] = 0.01,
    warmup_epochs: Annotated[
        float, typer.Option(help="Climb to the learning rate; then a cosine.", rich_help_panel=_OPTIMISATION)
    ] = 5.0,
    optimizer: Annotated[str, typer.Option(help="sgd or adamw.", rich_help_panel=_OPTIMISATION)] = "sgd",
    weight_decay: Annotated[float, typer.Option(help="L2.", rich_help_panel=_OPTIMISATION)] = 1e-4,
    label_smoothing: Annotated[float, typer.Option(help="0: none.", rich_help_panel=_OPTIMISATION)] = 0.0,
    clip_gradients: Annotated[
        float, typer.Option(help="Largest norm of a gradient; 0: any.", rich_help_panel=_OPTIMISATION)
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same run.", rich_help_panel=_OPTIMISATION)] = 0,
    val_every: Annotated[int, typer.Option(help="Validate every n epochs.", rich_help_panel=_OPTIMISATION)] = 1,
    val_protocol: Annotated[
        str, typer.Option(help="Test protocol of validation.", rich_help_panel=_OPTIMISATION)
    ] = "ten-clip",
    device: _Device = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.", rich_help_panel=_MACHINE)] = "auto",
    workers: Annotated[
        int, typer.Option(help="Processes that read clips; 0: the trainer itself.", rich_help_panel=_MACHINE)
    ] = 0,
    cache: Annotated[
        float, typer.Option(help="GiB of memory for decoded videos; 0: decode anew.", rich_help_panel=_MACHINE)
    ] = 2.0,
    channels_last: Annotated[bool, typer.Option(help="Memory layout.", rich_help_panel=_MACHINE)] = True,
    json: _Json = False,
) -> None:
    """Train a model.

    The run's folder gets last.pt (to resume from), best.pt (best video top-1
    on the validation split), history.jsonl and failures.jsonl. Ctrl-C saves
    and ends; a run that is resumed ends with the same weights as one that
    never stopped. Labels joined by ';' or '|' train against 1/k each (IG-65M).
    On several GPUs: torchrun --nproc-per-node N --no-python tenclip train ...

    \b
    Examples:
      tenclip train videos/manifest.csv --out run -a r2plus1d_10 --width 16
      tenclip train ucf/trainlist01.txt --videos UCF-101 --out ucf --fps 15
      tenclip train my-videos/ --out mine --init-from run/best.pt --epochs 15
      tenclip train --resume run
    """
    from tenclip_api.errors import InvalidRequest
    from tenclip_training.runs.config import read_config

    if resume is not None:
        if manifest is not None or out is not None:
            raise InvalidRequest("--resume takes the folder of a run, which knows its manifest and --out")
        _run(read_config(resume), resume=True, json=json, folder=resume)
        return
    if manifest is None or out is None:
        raise InvalidRequest("tenclip train needs a manifest and --out, or --resume RUN")
    given = {"frames": frames, "stride": stride, "fps": fps, "resize": resize, "crop": crop}
    config = _train_config(
        {k: v for k, v in given.items() if v is not None},
        scale=scale,
        flip=flip,
        color_jitter=color_jitter,
        width=width,
        model_options=model_option or [],
        manifest=str(manifest),
        out=str(out),
        videos=_text(videos),
        labels=_text(labels),
        label_column=label_column,
        train_split=train_split,
        val_split=val_split,
        held_out=held_out,
        whole_videos=whole_videos,
        missing="keep" if keep_missing else "error",
        max_failures=max_failures,
        clips_per_video=clips_per_video,
        architecture=architecture,
        init_from=_text(init_from),
        init_family=init_family,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        warmup_epochs=min(warmup_epochs, epochs / 2),
        optimizer=optimizer,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        max_gradient_norm=clip_gradients,
        seed=seed,
        val_every=val_every,
        val_protocol=val_protocol,
        device=device,
        precision=precision,
        workers=workers,
        cache_gib=cache,
        channels_last=channels_last,
    )
    _run(config, resume=False, json=json, folder=out)


def evaluate(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint of tenclip train, or of a public family.", show_default=False)
    ],
    manifest: Annotated[
        Path, typer.Argument(help="Labelled videos, in any form that tenclip train reads.", show_default=False)
    ],
    split: Annotated[
        str | None,
        typer.Option(help="Split to evaluate, or all.", show_default="test, else val", rich_help_panel=_DATA),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="Test protocol; `list` shows them all.", show_default="the family's; ten-clip for ours"),
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="Family of a public checkpoint.", show_default="as its weights tell")
    ] = None,
    videos: _Videos = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="File with the classes in order, for a checkpoint that does not name them.",
            show_default=False,
            rich_help_panel=_DATA,
        ),
    ] = None,
    label_column: _LabelColumn = None,
    held_out: _HeldOut = 0.2,
    seed: Annotated[
        int, typer.Option(help="Of the training run, where it chose what to hold out.", rich_help_panel=_DATA)
    ] = 0,
    whole_videos: _WholeVideos = False,
    keep_missing: _KeepMissing = False,
    device: _Device = "auto",
    decode_threads: Annotated[
        int | None, typer.Option(help="Videos decoded at once.", show_default="one a core", rich_help_panel=_MACHINE)
    ] = None,
    json: _Json = False,
) -> None:
    """Evaluate a model on labelled videos.

    Clips are read and averaged exactly as the server does it. Top-1 and top-5
    are counted for single clips and for videos; videos that cannot be decoded
    are listed, with reasons, and are not in the denominators.

    \b
    Examples:
      tenclip evaluate run/best.pt videos/manifest.csv
      tenclip evaluate run/best.pt ucf/testlist01.txt --videos UCF-101
      tenclip evaluate run/best.pt list.csv --protocol fully-convolutional
      tenclip evaluate run/best.pt my-videos/ --split all --json
    """
    from tenclip_video.protocols import PROTOCOLS

    if protocol == "list":
        for name, known in PROTOCOLS.items():
            typer.echo(f"{name:<22}{known.description}")
        return
    import torch

    from tenclip_data.manifest import read_manifest
    from tenclip_training.console import print_evaluation, reporting
    from tenclip_training.evaluation.evaluate import evaluate as run
    from tenclip_video.cpus import usable_cpus

    read = read_manifest(
        manifest,
        labels=labels,
        videos=videos,
        label_column=label_column,
        whole_videos=whole_videos,
        missing="keep" if keep_missing else "error",
        held_out=held_out,
        seed=seed,
    )
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    with reporting() as reporter:
        result = run(
            checkpoint,
            read,
            split=_evaluated_split(read, split),
            protocol=protocol,
            family=family,
            device=device,
            decode_threads=decode_threads or usable_cpus(),
            progress=lambda done, total: reporter.update("evaluating", done, total, "videos"),
        )
    if json:
        _print_json({"checkpoint": str(checkpoint), "manifest": str(manifest), **result.to_dict()})
    else:
        print_evaluation(result, title=f"{checkpoint} on {manifest}")


# -- train --


def _train_config(
    clip_values: dict[str, Any],
    *,
    scale: str | None,
    flip: bool | None,
    color_jitter: float,
    width: int | None,
    model_options: list[str],
    **values: Any,
) -> TrainConfig:
    from tenclip_training.data.augment import Augmentation
    from tenclip_training.runs.config import TrainConfig

    with _usage_errors():
        model = {**dict(_model_option(o) for o in model_options), **({} if width is None else {"width": width})}
        augmentation = Augmentation(
            scale=None if scale is None else _pair(scale, "-", "--scale", "0.6-1"),
            flip=flip,
            brightness=color_jitter,
            contrast=color_jitter,
            saturation=color_jitter,
        )
        spec = _clip_spec(clip_values) if clip_values else None
        return TrainConfig(model=model, clip_spec=spec, augmentation=augmentation, **values)


def _clip_spec(values: dict[str, Any]) -> ClipSpec:
    from tenclip_video.spec import ClipSpec, Resize

    text = values.get("resize", "128x171")
    if "x" in text:
        height, width = (int(side) for side in _pair(text, "x", "--resize", "128x171"))
        resize, short = Resize(height=height, width=width), min(height, width)
    elif not text.isdecimal():
        raise ValueError(f"--resize {text!r}: write HEIGHTxWIDTH, e.g. 128x171, or a short edge, e.g. 128")
    else:
        short = int(text)
        resize = Resize(mode="short_edge", short_edge=short)
    crop = values.get("crop", min(112, short))
    return ClipSpec(
        num_frames=values.get("frames", 16),
        frame_stride=values.get("stride", 1),
        target_fps=values.get("fps"),
        resize=resize,
        crop=crop,
        # The largest square of the frame, as in IG-65M: 128 of 128x171.
        fully_convolutional_crop=short if short > crop else None,
    )


def _run(config: TrainConfig, *, resume: bool, json: bool, folder: Path) -> None:
    from tenclip_training.console import epoch_line, reporting
    from tenclip_training.runs.train import train as run

    with reporting() as reporter:
        result = run(
            config,
            resume=resume,
            progress=lambda p: _show(reporter, p),
            on_epoch=lambda e: reporter.say(epoch_line(e, config.epochs)),
        )
    if os.environ.get("RANK", "0") == "0":
        _print_run(config, result, json=json)
    if not result.completed:
        typer.echo(
            f"stopped after {result.epochs_done} of {config.epochs} epochs, saved in {result.last}; "
            f"go on with: tenclip train --resume {shlex.quote(str(folder))}",
            err=True,
        )
        raise typer.Exit(INTERRUPTED)


def _show(reporter: Reporter, p: Progress) -> None:
    if p.stage == "train":
        loss = "" if p.loss != p.loss else f"loss {p.loss:.3f}"
        reporter.update(f"epoch {p.epoch} of {p.epochs}", p.done, p.total, loss)
    else:
        reporter.update({"cache": "decoding", "evaluate": "validating"}[p.stage], p.done, p.total, "videos")


def _print_run(config: TrainConfig, result: TrainResult, *, json: bool) -> None:
    from dataclasses import asdict

    if json:
        _print_json(
            {
                "completed": result.completed,
                "epochs_done": result.epochs_done,
                "last": str(result.last),
                "best": _text(result.best),
                "labels": list(result.labels),
                "videos_failed": result.videos_failed,
                "history": [asdict(h) for h in result.history],
                "evaluation": None if result.evaluation is None else result.evaluation.to_dict(),
            }
        )
        return
    if result.videos_failed:
        typer.echo(f"{result.videos_failed} training videos could not be read: {result.out / 'failures.jsonl'}")
    if result.completed:
        typer.echo(f"wrote {result.last}" + (f" and {result.best}" if result.best else ""))


# -- shared --


def _evaluated_split(manifest: Manifest, wanted: str | None) -> str:
    """ "" stands for all videos. Raises DatasetError where none was named and there is no test or val."""
    from tenclip_api.errors import DatasetError

    if wanted is not None:
        return "" if wanted == "all" else wanted
    for name in ("test", "val"):
        if name in manifest.splits:
            return name
    raise DatasetError(
        f"{manifest.source}: has neither a test nor a val split but {', '.join(manifest.splits)}; name one"
    )


def _model_option(text: str) -> tuple[str, Any]:
    import json

    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ValueError(f"--model-option {text!r}: write NAME=VALUE, e.g. bn_eps=1e-5")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value  # a bare word is a string


def _pair(text: str, separator: str, option: str, example: str) -> tuple[float, float]:
    first, _, second = text.partition(separator)
    try:
        return float(first), float(second)
    except ValueError:
        raise ValueError(f"{option} {text!r}: write two numbers, e.g. {example}") from None


class _usage_errors:  # noqa: N801  (used as a function)
    """What a user has typed is refused in one line, not with a traceback."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        from tenclip_api.errors import InvalidRequest, TenclipError

        if isinstance(error, ValueError) and not isinstance(error, TenclipError):
            raise InvalidRequest(str(error)) from error


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _print_json(values: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(values, indent=2, allow_nan=False))
