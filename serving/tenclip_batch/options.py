"""What can be asked of a batch: plain dataclasses, which travel to workers on other machines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tenclip_batch.schema import Task
from tenclip_serving.config import RuntimeChoice, VariantChoice
from tenclip_serving.requests import ClipRequest, RecognitionRequest
from tenclip_video.sampling import SelectionMode

OutputFormat = Literal["parquet", "npy", "npz"]


@dataclass(frozen=True, kw_only=True)
class ClipChoices:
    """Which clips of every video; None leaves it to the bundle's protocol.

    window: frames that a clip spans; step: frames from one window to the next; fps: of the timeline they are counted
    on, None for the video's own.
    """

    mode: SelectionMode | None = None
    num_clips: int | None = None
    step: int | None = None
    start: float | None = None
    end: float | None = None
    fully_convolutional: bool | None = None
    adaptive: bool = False
    motion_energy: bool = False
    protocol: str | None = None
    window: int | None = None
    fps: float | None = None

    def request(self) -> RecognitionRequest:
        """As a caller of the server would ask; without a video."""
        spatial = {None: None, True: "fully_convolutional", False: "pooled"}[self.fully_convolutional]
        return RecognitionRequest(
            clips=ClipRequest(
                mode=self.mode,
                num_clips=self.num_clips or 0,
                window_step=self.step or 0,
                start_seconds=self.start or 0.0,
                end_seconds=self.end or 0.0,
                adaptive=self.adaptive,
                sampler="motion-energy" if self.motion_energy else "",
            ),
            spatial_mode=spatial,  # type: ignore[arg-type]
            protocol=self.protocol or "",
        )


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions:
    """What executes the model in each process. threads 0: the runtime chooses. in_flight 0: by the decode workers.

    decode_worker_memory_mb: MiB of address space of a decode worker, 0 for no limit. spool_dir: where videos of URIs,
    tar files and Parquet wait; max_spool_mb: MiB of all of them, 0 for twice max_upload_mb, which is that of one.
    max_shard_mb: MiB of the largest shard at a URL that has to lie on disk, because its server sends no parts of it.
    """

    runtime: RuntimeChoice = "auto"
    variant: VariantChoice = "auto"
    threads: int = 0
    instances: int = 1
    decode_workers: int = 0
    decode_worker_memory_mb: int = 4096
    in_flight: int = 0
    max_decode_seconds: float = 120.0
    max_clips: int = 10_000
    max_clip_mb: int = 1024
    max_shard_mb: int = 16_384
    max_video_mb: int = 16384
    max_pixels: int = 40_000_000
    max_frames: int = 2_100_000
    max_video_seconds: float = 90_000.0
    max_streams: int = 100
    max_fetch_seconds: float = 21_600.0
    upload_idle_seconds: float = 120.0
    max_upload_mb: int = 4096
    max_spool_mb: int = 0
    spool_dir: Path | None = None
    allow_hosts: tuple[str, ...] = ("*",)
    allow_networks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What is written. part_clips, part_videos, part_seconds: a part is written when the first of them is reached."""

    task: Task = "features"
    format: OutputFormat = "parquet"
    top_k: int = 5
    per_clip: bool = False
    part_clips: int = 8192
    part_videos: int = 1024
    part_seconds: float = 300.0

    @property
    def with_clips(self) -> bool:
        """Whether there is a table of clips."""
        return self.per_clip if self.task == "predict" else self.format == "parquet"


@dataclass(frozen=True, kw_only=True)
class ResumeOptions:
    """How what is there is treated, as `tenclip features` does."""

    by_content: bool = False
    retry_failed: bool = False
    prune: bool = False
    overwrite: bool = False
