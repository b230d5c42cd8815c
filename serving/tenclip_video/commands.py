"""`tenclip inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tenclip_video.bundle import BundleInfo
    from tenclip_video.clips import VideoClips
    from tenclip_video.protocols import Protocol
    from tenclip_video.spec import ClipSpec


def inspect(
    videos: Annotated[list[Path], typer.Argument(help="Video files.", show_default=False)],
    model: Annotated[
        Path | None, typer.Option(help="A bundle NAME/VERSION whose clips to plan.", show_default="16x112, stride 1")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Test protocol to plan.", show_default="the bundle's, else ten-clip")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Show what is in a video and the clips that a prediction would look at.

    The first frame and those of the plan are really decoded, so what is reported here is what a server would find.

    \b
    Examples:
      tenclip inspect run.mp4
      tenclip inspect run.mp4 --model models/action/1 --protocol fully-convolutional
      tenclip inspect *.mp4 --json
    """
    from tenclip_api.errors import InvalidRequest, TenclipError
    from tenclip_video.bundle import read_bundle
    from tenclip_video.clips import read_clips
    from tenclip_video.protocols import DEFAULT_PROTOCOL, PROTOCOLS
    from tenclip_video.spec import ClipSpec

    info: BundleInfo | None = read_bundle(model).info if model else None
    spec = info.clip_spec if info else ClipSpec()
    name = protocol or (info.default_protocol if info else DEFAULT_PROTOCOL)
    if name not in PROTOCOLS:
        raise InvalidRequest(f"protocol {name!r} is not one of {', '.join(PROTOCOLS)}")
    chosen = PROTOCOLS[name]
    spec = chosen.apply(spec)
    results: list[dict[str, Any]] = []
    for video in videos:
        try:
            clips = read_clips(video, spec, chosen)
        except TenclipError as err:
            results.append({"video": str(video), "error": {"reason": err.reason, "message": err.message}})
            continue
        results.append({"video": str(video), **_as_dict(clips, spec, chosen)})
    if json:
        import json as jsonlib

        print(jsonlib.dumps(results, indent=2))
    else:
        _print_tables(results)
    if any("error" in r for r in results):
        raise typer.Exit(1)


def _as_dict(clips: VideoClips, spec: ClipSpec, protocol: Protocol) -> dict[str, Any]:
    import dataclasses

    return {
        "info": dataclasses.asdict(clips.info),
        "report": dataclasses.asdict(clips.report),
        "protocol": protocol.name,
        "clip_spec": spec.to_dict(),
        "input_shape": list(clips.clips.shape),
        "clips": [
            {"start_seconds": s, "end_seconds": e, "looped": c.looped, "frames": list(c.frames)}
            for c, (s, e) in zip(clips.plan, clips.seconds, strict=True)
        ],
    }


def _print_tables(results: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console, errors = Console(), Console(stderr=True)
    for result in results:
        if "error" in result:
            errors.print(
                f"[bold red]{result['error']['reason']}[/]  {escape(result['error']['message'])}", soft_wrap=True
            )
            continue
        # Headings of their own: a table's title is folded to the table's width.
        console.print(f"[bold]{escape(result['video'])}[/]", soft_wrap=True)
        console.print(_info_table(result))
        console.print(escape(f"plan: {result['protocol']}, input {result['input_shape']} uint8"), soft_wrap=True)
        plan = Table()
        for column in ("clip", "seconds", "frames", ""):
            plan.add_column(column, justify="left" if column in ("frames", "") else "right")
        for i, clip in enumerate(result["clips"]):
            frames = clip["frames"]
            shown = ", ".join(map(str, frames[:4])) + (f" ... {frames[-1]}" if len(frames) > 4 else "")
            seconds = f"{clip['start_seconds']:.2f}-{clip['end_seconds']:.2f}"
            plan.add_row(str(i), seconds, shown, "looped" if clip["looped"] else "")
        console.print(plan)


def _info_table(result: dict[str, Any]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    info, report = result["info"], result["report"]
    table = Table(show_header=False)
    turned = f", turned {info['rotation']} degrees clockwise" if info["rotation"] else ""
    turned += ", mirrored left to right" if info["mirrored"] else ""
    audio = "audio" if info["has_audio"] else "no audio"
    declared = info["declared_frames"] or "nothing"
    rate = f"{info['frames_per_second']:.3f} fps" + (", variable" if info["variable_frame_rate"] else "")
    table.add_row("container", f"{info['container']}, {info['codec']} {info['pixel_format']}, {audio}")
    table.add_row("picture", f"{info['width']}x{info['height']}{turned}")
    table.add_row("time", f"{info['duration_seconds']:.3f} s, {rate}")
    table.add_row("frames", f"{info['num_frames']} counted, the header says {declared}")
    seeking = f"{info['num_keyframes']} keyframes" if info["seekable"] else "none: decoded from the beginning"
    table.add_row("seeking", seeking)
    table.add_row(
        "decoded", f"{report['frames_decoded']} frames for the {report['frames_requested']} that the plan needs"
    )
    for warning in report["warnings"]:
        table.add_row("[yellow]warning[/]", escape(warning))
    return table
