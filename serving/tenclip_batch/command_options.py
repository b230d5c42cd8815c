"""Options of `tenclip batch`, in groups; they become the plain dataclasses of `options` and `ray_engine`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tenclip_client.cli.options import CLIPS, OUTPUT, Json, NumClips, Protocol

if TYPE_CHECKING:
    from tenclip_batch.options import ClipChoices, ResumeOptions, RuntimeOptions
    from tenclip_batch.ray_engine import RayOptions
    from tenclip_batch.sources import BatchVideo

_INPUT, _RUNS, _LIMITS, _WHERE, _EARLIER = "Videos", "What runs", "Limits", "Where it runs", "Rows of an earlier run"

VIDEOS = typer.Argument(
    metavar="VIDEO",
    help="Files, folders, lists of videos, patterns, URIs (http, https, s3), tar shards and Parquet files with videos, "
    "by path or URI, {000..127} in their names.",
    show_default=False,
)
BundleFolder = Annotated[
    Path, typer.Option("--bundle", metavar="DIR", help="The bundle that runs, as `tenclip export` writes it.")
]
Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="DATASET", help="The folder to write.", rich_help_panel=OUTPUT)
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputOptions:
    """Which videos."""

    manifest: Annotated[
        list[Path] | None,
        typer.Option(
            help="A list or table of videos, as training reads it, whatever its suffix. Repeatable.",
            rich_help_panel=_INPUT,
            show_default=False,
        ),
    ] = None
    list_root: Annotated[
        Path | None,
        typer.Option(
            "--videos",
            help="Folder that relative paths in a list start from.",
            show_default="the list's",
            rich_help_panel=_INPUT,
        ),
    ] = None
    bytes_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Column of a Parquet file that holds the videos themselves.",
            show_default="found by its name and type",
            rich_help_panel=_INPUT,
        ),
    ] = None

    def batch_videos(self, arguments: list[str] | None) -> list[BatchVideo]:
        """Raises BadParameter where nothing is named, DatasetError of a manifest that cannot be read."""
        from tenclip_batch.videos import batch_videos, manifest_videos

        if not arguments and not self.manifest:
            raise typer.BadParameter("name videos (files, folders, patterns, lists, URIs, shards) or a --manifest")
        found = batch_videos(arguments or (), list_root=self.list_root, column=self.bytes_column)
        listed = [
            v
            for path in self.manifest or ()
            for v in manifest_videos(path, list_root=self.list_root, column=self.bytes_column)
        ]
        return list({v.name: v for v in (*listed[::-1], *found[::-1])}.values())[::-1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchClipOptions:
    """Which clips of every video."""

    selection: Annotated[
        Literal["uniform", "center", "windows", "salient"] | None,
        typer.Option(help="How clips are chosen. Default: as the bundle's protocol says.", rich_help_panel=CLIPS),
    ] = None
    num_clips: NumClips = None
    window: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="FRAMES",
            help="Sliding windows of so many frames: a multiple of the model's, which are spread over them.",
            rich_help_panel=CLIPS,
        ),
    ] = None
    step: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="FRAMES",
            help="Frames from one window to the next. Default: no overlap.",
            rich_help_panel=CLIPS,
        ),
    ] = None
    fps: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="Lay this many frames a second over every video, by their times. Default: as the bundle says.",
            rich_help_panel=CLIPS,
        ),
    ] = None
    start: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Only from here on.", rich_help_panel=CLIPS)
    ] = None
    end: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Only up to here.", rich_help_panel=CLIPS)
    ] = None
    fully_convolutional: Annotated[
        bool | None,
        typer.Option(
            "--fully-convolutional/--pooled",
            help="Slide over the larger crop, or take the centre crop only. Default: as the bundle's protocol says.",
            rich_help_panel=CLIPS,
        ),
    ] = None
    adaptive: Annotated[
        bool,
        typer.Option(
            "--adaptive",
            help="Stop when the salient clips that are done settle the classes, by the bundle's stopping rule.",
            rich_help_panel=CLIPS,
        ),
    ] = False
    sampler: Annotated[
        Literal["motion-energy"] | None,
        typer.Option(
            help="Score windows by motion energy, where the bundle has a sampler of its own.", rich_help_panel=CLIPS
        ),
    ] = None
    protocol: Protocol = None

    def choices(self) -> ClipChoices:
        """Raises InvalidRequest for options that contradict each other."""
        from tenclip_api.errors import InvalidRequest
        from tenclip_batch.options import ClipChoices

        values: dict[str, Any] = dataclasses.asdict(self)
        mode, sampler = values.pop("selection"), values.pop("sampler")
        if (self.window or self.step) and mode is None and self.protocol is None:
            mode = "windows"
        if self.step and mode not in ("windows", "salient"):
            raise InvalidRequest("--step is the distance of windows: leave it out, or take --selection windows")
        return ClipChoices(mode=mode, motion_energy=sampler is not None, **values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessOptions:
    """What executes the model, and on how much of the machine."""

    runtime: Annotated[
        Literal[
            "auto", "gpu", "onnxruntime", "openvino", "onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt", "torch"
        ],
        typer.Option(
            help="What executes the model; auto: the fastest one that answers as it should; gpu: the same on a GPU, or "
            "none.",
            rich_help_panel=_RUNS,
        ),
    ] = "auto"
    variant: Annotated[
        Literal["auto", "fp32", "fp16", "bf16", "int8"],
        typer.Option(
            help="Precision; auto: fp32, or a lower one that passed its bound and was measured to be faster.",
            rich_help_panel=_RUNS,
        ),
    ] = "auto"
    threads: Annotated[
        int, typer.Option(min=0, max=1024, help="Threads of the runtime; 0: it chooses.", rich_help_panel=_RUNS)
    ] = 0
    instances: Annotated[
        int, typer.Option(min=1, max=64, help="Copies of the model side by side.", rich_help_panel=_RUNS)
    ] = 1
    decode_workers: Annotated[
        int,
        typer.Option(
            min=0,
            max=1024,
            help="Processes that decode; 0: one for each two cores, at least two.",
            rich_help_panel=_RUNS,
        ),
    ] = 0
    decode_worker_memory_mb: Annotated[
        int,
        typer.Option(min=0, max=2**24, help="Address space of one of them in MiB; 0: no limit.", rich_help_panel=_RUNS),
    ] = 4096
    in_flight: Annotated[
        int,
        typer.Option(min=0, max=4096, help="Videos at once; 0: four for each decode process.", rich_help_panel=_RUNS),
    ] = 0
    max_decode_seconds: Annotated[
        float, typer.Option(min=0.001, help="Longest that one video may decode.", rich_help_panel=_LIMITS)
    ] = 120.0
    max_clips: Annotated[int, typer.Option(min=1, help="Most clips of one video.", rich_help_panel=_LIMITS)] = 10_000
    max_clip_mb: Annotated[
        int, typer.Option(min=1, help="Most MiB of decoded clips of one video.", rich_help_panel=_LIMITS)
    ] = 1024
    max_shard_mb: Annotated[
        int,
        typer.Option(
            min=1,
            max=2**24,
            help="MiB of a shard by URL that may lie on disk meanwhile, where its server sends no parts of files.",
            rich_help_panel=_LIMITS,
        ),
    ] = 16_384
    max_fetch_seconds: Annotated[
        float,
        typer.Option(min=0.001, max=86_400, help="Longest that fetching a URI may take.", rich_help_panel=_LIMITS),
    ] = 21_600.0
    upload_idle_seconds: Annotated[
        float,
        typer.Option(
            min=0.001,
            max=86_400,
            help="Longest that nothing may come of a video that is fetched or copied.",
            rich_help_panel=_LIMITS,
        ),
    ] = 120.0
    max_upload_mb: Annotated[
        int,
        typer.Option(
            min=1, max=2**24, help="Largest video of a URI, tar file or Parquet file in MiB.", rich_help_panel=_LIMITS
        ),
    ] = 4096
    max_spool_mb: Annotated[
        int,
        typer.Option(
            min=0,
            max=2**24,
            help="MiB on disk of all of these that wait; 0: twice --max-upload-mb.",
            rich_help_panel=_LIMITS,
        ),
    ] = 0
    spool_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where they wait, on disk and without names.",
            show_default="where temporary files are",
            rich_help_panel=_LIMITS,
        ),
    ] = None
    max_video_mb: Annotated[
        int,
        typer.Option(min=1, max=2**24, help="Largest video file in MiB.", rich_help_panel=_LIMITS),
    ] = 16_384
    max_pixels: Annotated[
        int,
        typer.Option(min=1, max=2**31 - 1, help="Most pixels of one picture of a video.", rich_help_panel=_LIMITS),
    ] = 40_000_000
    max_frames: Annotated[
        int,
        typer.Option(min=1, max=2**31 - 1, help="Most frames of one video.", rich_help_panel=_LIMITS),
    ] = 2_100_000
    max_video_seconds: Annotated[
        float,
        typer.Option(min=0.001, max=10**9, help="Longest video.", rich_help_panel=_LIMITS),
    ] = 90_000.0
    max_streams: Annotated[
        int,
        typer.Option(min=1, max=10**5, help="Most streams of one video.", rich_help_panel=_LIMITS),
    ] = 100
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Host of URIs that may be fetched from, as `tenclip serve` has it. Repeatable.",
            show_default="all",
            rich_help_panel=_LIMITS,
        ),
    ] = None
    allow_network: Annotated[
        list[str] | None,
        typer.Option(
            help="Network that URIs may lead to though it is not public. Repeatable.",
            show_default=False,
            rich_help_panel=_LIMITS,
        ),
    ] = None

    def runtime_options(self) -> RuntimeOptions:
        from tenclip_batch.options import RuntimeOptions

        values: dict[str, Any] = dataclasses.asdict(self)
        hosts, networks = values.pop("allow_host"), values.pop("allow_network")
        return RuntimeOptions(allow_hosts=tuple(hosts or ("*",)), allow_networks=tuple(networks or ()), **values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Who works: this process, or actors of Ray."""

    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(
            help="This process, or actors of Ray Data, which may be on many machines.", rich_help_panel=_WHERE
        ),
    ] = "local"
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="The Ray cluster; `auto` for the one of this machine. Default: one that is started for this run.",
            show_default=False,
            rich_help_panel=_WHERE,
        ),
    ] = None
    actors: Annotated[
        int,
        typer.Option(
            min=0,
            help="With Ray: processes that hold the model, each with its decode processes; 0: as many as fit. More "
            "than that start when the cluster of --ray-address has grown.",
            rich_help_panel=_WHERE,
        ),
    ] = 0
    cpus_per_actor: Annotated[
        float, typer.Option(min=0, help="With Ray: cores that an actor reserves.", rich_help_panel=_WHERE)
    ] = 2.0
    gpus_per_actor: Annotated[
        float,
        typer.Option(min=0, help="With Ray: GPUs that an actor reserves, or a part of one.", rich_help_panel=_WHERE),
    ] = 0.0
    decode_actors: Annotated[
        int,
        typer.Option(
            min=0,
            max=1024,
            help="With Ray: other actors that decode for each one with the model, on machines without GPUs, say; "
            "0: it decodes itself.",
            rich_help_panel=_WHERE,
        ),
    ] = 0
    cpus_per_decode_actor: Annotated[
        float,
        typer.Option(
            min=0,
            help="With --decode-actors: cores that one of these reserves; as many decode processes, unless "
            "--decode-workers says otherwise.",
            rich_help_panel=_WHERE,
        ),
    ] = 2.0
    chunk_videos: Annotated[
        int,
        typer.Option(
            min=0,
            help="With Ray: videos that an actor takes at once, which make one part; 0: by their number.",
            rich_help_panel=_WHERE,
        ),
    ] = 0

    def ray_options(self) -> RayOptions:
        from tenclip_batch.ray_engine import RayOptions

        values: dict[str, Any] = dataclasses.asdict(self)
        del values["engine"]
        return RayOptions(address=values.pop("ray_address"), **values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlierOptions:
    """How what is in the folder is treated."""

    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Also the videos that failed in an earlier run.", rich_help_panel=_EARLIER),
    ] = False
    by_content: Annotated[
        bool,
        typer.Option(
            "--by-content",
            help="Tell changed videos by their SHA-256 as well, not only by size and time of change.",
            rich_help_panel=_EARLIER,
        ),
    ] = False
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Drop the rows of videos that are gone or not named any more.", rich_help_panel=_EARLIER
        ),
    ] = False
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin again, whatever is there.", rich_help_panel=_EARLIER)
    ] = False

    def resume(self) -> ResumeOptions:
        from tenclip_batch.options import ResumeOptions

        return ResumeOptions(**dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartOptions:
    """How much is in a part, and so at stake when a process is killed; and what is printed."""

    part_clips: Annotated[int, typer.Option(min=1, help="Most clips of a part.", rich_help_panel=OUTPUT)] = 8192
    part_seconds: Annotated[
        float,
        typer.Option(min=0, help="A part is written after so long, full or not.", rich_help_panel=OUTPUT),
    ] = 300.0
    show: Annotated[
        bool, typer.Option("--show", help="Print what came of each video as well.", rich_help_panel=OUTPUT)
    ] = False
    as_json: Json = False
