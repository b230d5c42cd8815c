"""`tenclip omni preview`: what the clips of an image look like."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer


class Transforms(enum.StrEnum):
    """The values of `--images`, here and of `tenclip train`."""

    REPLICATE = "replicate"
    TRANSLATE_CONSTANT = "translate-constant"
    TRANSLATE_RANDOM = "translate-random"
    WARP = "warp"
    WARP_CLASS = "warp-class"


def preview(
    image: Annotated[Path, typer.Argument(help="A picture.")],
    out: Annotated[Path, typer.Option(help="The picture to write: .png, .webp or .jpg.")],
    images: Annotated[
        list[Transforms] | None,
        typer.Option(help="How a clip is made; give it again for more rows.", show_default="all that can be"),
    ] = None,
    motion: Annotated[
        Path | None, typer.Option(help="Motion file of fit-motion, for warp.", show_default=False)
    ] = None,
    label: Annotated[str, typer.Option(help="Class whose motion warp-class takes.")] = "",
    frames: Annotated[int, typer.Option(min=1, help="Frames of the clip.")] = 8,
    size: Annotated[int, typer.Option(min=8, help="Short side of the frames, in pixels.")] = 96,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other clips.")] = 0,
) -> None:
    """Show the clips that `tenclip train --images` makes of an image, frame by frame.

    \b
    Examples:
      tenclip omni preview web/run/1.jpg --motion motion.json --out clips.webp
      tenclip omni preview web/run/1.jpg --images translate-random --frames 16 --out clips.png
    """
    from tenclip_api.errors import InvalidRequest
    from tenclip_training.omni.motion import read_motion
    from tenclip_training.omni.preview import preview as show
    from tenclip_training.omni.preview import write_picture
    from tenclip_training.omni.pseudo_clips import TRANSFORMS
    from tenclip_video.spec import ClipSpec, Resize

    read = None if motion is None else read_motion(motion)
    classes = bool(read and read.classes)
    possible = [t for t in TRANSFORMS if (read or not t.startswith("warp")) and (classes or t != "warp-class")]
    wanted = [t for t in TRANSFORMS if t in images] if images else possible
    if missing := [t for t in wanted if t not in possible]:
        what = "no motion of single classes; fit it with --per-class" if read else "no --motion to warp by"
        raise InvalidRequest(f"{', '.join(missing)}: there is {what}")
    spec = ClipSpec(num_frames=frames, resize=Resize(mode="short_edge", short_edge=size), crop=size)
    write_picture(out, show(image, wanted, spec, motion=read, label=label, seed=seed))
    typer.echo(str(out))
