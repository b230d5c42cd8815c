"""What becomes of each of the odd files: decoded to so many frames, with these warnings, or refused with that error."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tenclip_api.errors import NoFrames, NoVideoStream, UndecodableVideo, VideoError
from tenclip_video.clips import read_clips
from tenclip_video.protocols import Protocol
from tenclip_video.sampling import ClipSelection
from tenclip_video.spec import ClipSpec


@dataclass(frozen=True)
class Good:
    """`looped`: shorter than a clip of 16 frames."""

    container: str
    codec: str
    width: int
    height: int
    num_frames: int
    frames_per_second: float
    rotation: int = 0
    variable: bool = False
    seekable: bool = True
    looped: bool = False
    substituted: int = 0
    corrupt: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bad:
    error: type[VideoError]
    message: str


OUTCOMES: dict[str, Good | Bad] = {
    "androidx_8k24fps_300ms.mp4": Good("mov", "hevc", 7680, 4320, 8, 24.01, looped=True),
    "androidx_bbb_176x144_128kbps_15fps_h263.3gp": Good("mov", "h263", 176, 144, 15, 15.0, looped=True),
    "androidx_edit_list_positive_shift.mp4": Good("mov", "h264", 1920, 1080, 270, 30.0),
    "androidx_h265_bframes.mp4": Good("mov", "hevc", 854, 480, 30, 30.0),
    "androidx_h265_with_metadata_track.mp4": Good("mov", "hevc", 1080, 1920, 3, 29.98, rotation=90, looped=True),
    "androidx_iibbibb_editlist_videoonly.mp4": Good("mov", "h264", 704, 576, 12, 1.0, looped=True),
    "androidx_internal_emulator_transformer_output_180_rotated.mp4": Good(
        "mov", "h264", 1280, 720, 149, 29.97, rotation=180
    ),
    "androidx_internal_emulator_transformer_output_270_rotated.mp4": Good(
        "mov", "h264", 720, 1280, 149, 29.97, rotation=270
    ),
    "androidx_invalid-bitstream.webm": Bad(
        UndecodableVideo, "51 vp9 frames, none of which can be decoded (Invalid data found when processing input)"
    ),
    "androidx_long_180p_av1.mp4": Good("mov", "av1", 320, 180, 21766, 60.0),
    "androidx_long_edit_list_audioonly.mp4": Bad(NoVideoStream, "no video stream; its streams are: audio"),
    "androidx_roadtrip-vp92-10bit.webm": Good("matroska", "vp9", 426, 240, 72, 23.98),  # 80 packets
    "androidx_sample.avi": Good(
        "avi", "mpeg4", 960, 400, 96, 23.48, warnings=("the header promises 98 frames, 96 are there (2 lost)",)
    ),
    "androidx_sample.flv": Good("flv", "h264", 1080, 720, 30, 29.99),
    "androidx_sample_av1.mp4": Good("mov", "av1", 1080, 720, 30, 29.97),
    "androidx_sample_empty_track.mp4": Good("mov", "h264", 1080, 720, 30, 29.97),
    "androidx_sample_h263.ts": Good("mpegts", "mpeg4", 640, 360, 25, 25.0),
    "androidx_sample_h264_iframes_only.ts": Good("mpegts", "h264", 854, 480, 30, 30.0),
    "androidx_sample_h265.ts": Good("mpegts", "hevc", 854, 480, 30, 30.0),
    "androidx_sample_no_bframes.mp4": Good("mov", "h264", 1080, 720, 30, 29.97),
    "androidx_sample_portrait.mp4": Good("mov", "h264", 720, 1080, 30, 29.97),
    "androidx_sample_sef_slow_motion.mp4": Good("mov", "h264", 320, 240, 63, 30.0),
    "androidx_video_dovi_1920x1080_60fps_dvav_09.mp4": Good("mov", "h264", 1920, 1080, 77, 59.96),
    "decord_corrupted.mp4": Good(
        "mov",
        "h264",
        1280,
        720,
        49,
        9.8,
        variable=True,
        corrupt=1,
        warnings=(
            "1 of 50 frames cannot be decoded; they are not counted",
            "packets that could not be decoded: 1",
            "1 frame is damaged; the decoder concealed what is missing in it",
        ),
    ),
    "decord_video_180.mov": Good("mov", "h264", 568, 320, 3, 30.0, rotation=180, looped=True),
    "decord_video_90.mov": Good("mov", "h264", 320, 568, 3, 30.0, rotation=90, looped=True),
    "imageio_cockatoo_yuv420.mp4": Good("mov", "h264", 1280, 720, 280, 20.0),
    "imageio_newtonscradle.gif": Good("gif", "gif", 200, 150, 36, 43.75, variable=True),
    "imageio_realshort.mp4": Good("mov", "h264", 320, 240, 36, 30.02),
    "moviepy_bitmap.mp4": Good("mov", "h264", 1, 1, 5, 1.0, looped=True),
    "moviepy_no_duration.webm": Good("matroska", "vp9", 1280, 720, 74, 14.98, variable=True),
    "moviepy_smpte-2997.mp4": Good("mov", "h264", 1920, 1080, 251, 25.0),
    "mp4parse_bbb_sunflower_QCIF_30fps_mp4v_noaudio_1f.mp4": Good("mov", "mpeg4", 176, 144, 1, 30.0, looped=True),
    "mp4parse_chunk_out_of_range.mp4": Bad(
        UndecodableVideo, "begins like an MP4, but cannot be opened (Invalid data found when processing input)"
    ),
    "mp4parse_h264_white_frame_sar_16_9.mp4": Good("mov", "h264", 640, 480, 1, 25.0, looped=True),
    "mp4parse_no_timescale.mp4": Good(
        "mov",
        "h264",
        320,
        240,
        170,
        28.12,
        variable=True,
        corrupt=7,
        warnings=(
            "12 of 182 frames cannot be decoded; they are not counted",
            "its display matrix (0, 0, 0, 0) is singular; frames are left as coded",
            "packets that could not be decoded: 12",
            "7 frames are damaged; the decoder concealed what is missing in them",
        ),
    ),
    "small_AudioVideoInterleave.avi": Bad(NoFrames, "its mpeg4 stream holds no frames (zero duration)"),
    "small_Mpeg4.mp4": Bad(NoVideoStream, "no video stream; it holds no streams at all"),
    "small_WindowsMediaVideo.wmv": Bad(NoFrames, "its msmpeg4 stream holds no frames (zero duration)"),
    "torchcodec_bt709_full_range.mp4": Good("mov", "h264", 1280, 720, 30, 30.0),
    "torchcodec_h264_10bits.mp4": Good("mov", "h264", 200, 200, 30, 30.0),
    "torchcodec_h265_video.mp4": Good("mov", "hevc", 128, 128, 10, 10.0, looped=True),
    "torchcodec_nasa_13013.mp4": Good("mov", "h264", 480, 270, 390, 29.97),
}


def test_the_table_is_whole(data_dir: Path) -> None:
    files = {f.name for f in (data_dir / "odd").iterdir() if f.suffix != ".md"}
    assert files == set(OUTCOMES)


@pytest.mark.parametrize("name", OUTCOMES)
def test_outcome(data_dir: Path, name: str) -> None:
    path, expected = data_dir / "odd" / name, OUTCOMES[name]
    if isinstance(expected, Bad):
        with pytest.raises(VideoError) as caught:
            read_clips(path, ClipSpec())
        assert type(caught.value) is expected.error
        assert str(caught.value) == f"{path}: {expected.message}"
        return
    result = read_clips(path, ClipSpec(), Protocol(selection=ClipSelection(num_clips=3)))
    info, report = result.info, result.report
    assert expected == Good(
        info.container,
        info.codec,
        info.width,
        info.height,
        info.num_frames,
        round(info.frames_per_second, 2),
        rotation=info.rotation,
        variable=info.variable_frame_rate,
        seekable=info.seekable,
        looped=any(clip.looped for clip in result.plan),
        substituted=report.frames_substituted,
        corrupt=report.frames_corrupt,
        warnings=report.warnings,
    )
    assert result.clips.shape == (3, 16, 112, 112, 3)
