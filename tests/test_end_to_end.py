"""The whole path with nothing left out: a real network, its bundle, a server process, the client and the command line,
on real videos and on every odd and broken file there is.

`ODD` is the table of outcomes: what becomes of each file in data/odd, and so of its like.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tenclip_api.errors import TenclipError, error_classes
from tenclip_client import Client, ServerPath
from tenclip_client.cli.exits import SOME_FAILED
from tenclip_export.bundle_writer import export_bundle
from tenclip_features import read_features
from tenclip_features.schema import COLUMNS, STAMP_COLUMNS
from tenclip_training.models import VideoModel, create_model
from tenclip_video.clips import read_clips
from tenclip_video.protocols import Protocol, video_probabilities
from tenclip_video.spec import ClipSpec, Resize

from .tenclip_serving.helpers import ServerProcess, running_server

SPEC = ClipSpec(num_frames=8, resize=Resize(height=64, width=86), crop=48, fully_convolutional_crop=64)
NUM_CLASSES = 12

pytestmark = pytest.mark.slow

# file in data/odd: frames that are there, or the reason why there is no prediction
ODD: dict[str, int | str] = {
    "androidx_8k24fps_300ms.mp4": 8,
    "androidx_bbb_176x144_128kbps_15fps_h263.3gp": 15,
    "androidx_edit_list_positive_shift.mp4": 270,
    "androidx_h265_bframes.mp4": 30,
    "androidx_h265_with_metadata_track.mp4": 3,
    "androidx_iibbibb_editlist_videoonly.mp4": 12,
    "androidx_internal_emulator_transformer_output_180_rotated.mp4": 149,
    "androidx_internal_emulator_transformer_output_270_rotated.mp4": 149,
    "androidx_invalid-bitstream.webm": "UNDECODABLE_VIDEO",
    "androidx_long_180p_av1.mp4": 21766,
    "androidx_long_edit_list_audioonly.mp4": "NO_VIDEO_STREAM",
    "androidx_roadtrip-vp92-10bit.webm": 72,
    "androidx_sample.avi": 96,
    "androidx_sample.flv": 30,
    "androidx_sample_av1.mp4": 30,
    "androidx_sample_empty_track.mp4": 30,
    "androidx_sample_h263.ts": 25,
    "androidx_sample_h264_iframes_only.ts": 30,
    "androidx_sample_h265.ts": 30,
    "androidx_sample_no_bframes.mp4": 30,
    "androidx_sample_portrait.mp4": 30,
    "androidx_sample_sef_slow_motion.mp4": 63,
    "androidx_video_dovi_1920x1080_60fps_dvav_09.mp4": 77,
    "decord_corrupted.mp4": 49,
    "decord_video_180.mov": 3,
    "decord_video_90.mov": 3,
    "imageio_cockatoo_yuv420.mp4": 280,
    "imageio_newtonscradle.gif": 36,
    "imageio_realshort.mp4": 36,
    "moviepy_bitmap.mp4": 5,
    "moviepy_no_duration.webm": 74,
    "moviepy_smpte-2997.mp4": 251,
    "mp4parse_bbb_sunflower_QCIF_30fps_mp4v_noaudio_1f.mp4": 1,
    "mp4parse_chunk_out_of_range.mp4": "UNDECODABLE_VIDEO",
    "mp4parse_h264_white_frame_sar_16_9.mp4": 1,
    "mp4parse_no_timescale.mp4": 170,
    "small_AudioVideoInterleave.avi": "NO_FRAMES",
    "small_Mpeg4.mp4": "NO_VIDEO_STREAM",
    "small_WindowsMediaVideo.wmv": "NO_FRAMES",
    "torchcodec_bt709_full_range.mp4": 30,
    "torchcodec_h264_10bits.mp4": 30,
    "torchcodec_h265_video.mp4": 10,
    "torchcodec_nasa_13013.mp4": 390,
}


@pytest.fixture(scope="module")
def model() -> VideoModel:
    """R(2+1)D-10, narrow, random weights."""
    torch.manual_seed(0)
    made = create_model("r2plus1d_10", num_classes=NUM_CLASSES, width=8, num_frames=SPEC.num_frames, crop=SPEC.crop)
    # Features of a random network hardly differ between videos; a larger last layer makes its scores differ.
    torch.nn.init.normal_(made.fc.weight, std=2.0)
    return made.eval()


@pytest.fixture(scope="module")
def models(model: VideoModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("exported")
    export_bundle(model, SPEC, root, name="random", labels=[f"class {i}" for i in range(NUM_CLASSES)])
    return root


@pytest.fixture(scope="module")
def server(models: Path, data_dir: Path) -> Iterator[ServerProcess]:
    with running_server(models, "--allow-root", str(data_dir)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


@pytest.mark.parametrize("name", ODD)
def test_every_odd_file_ends_in_a_prediction_or_its_own_error(client: Client, data_dir: Path, name: str) -> None:
    expected = ODD[name]
    path = data_dir / "odd" / name
    if isinstance(expected, str):
        with pytest.raises(error_classes()[expected]) as caught:
            client.predict(path)
        assert name in str(caught.value)
    else:
        prediction = client.predict(path)
        assert prediction.video.num_frames == expected
        assert len(prediction.top) == 5
        assert prediction.top[0].score >= prediction.top[-1].score > 0


def test_the_table_is_complete(data_dir: Path) -> None:
    assert {p.name for p in (data_dir / "odd").iterdir() if p.suffix != ".md"} == set(ODD)


def test_a_good_request_succeeds_after_all_the_bad_ones(client: Client, data_dir: Path) -> None:
    for name, expected in ODD.items():
        if isinstance(expected, str):
            with pytest.raises(TenclipError):
                client.predict(data_dir / "odd" / name)
    assert client.predict(data_dir / "clips" / "archery.avi").top


@pytest.mark.parametrize("name", ["archery.avi", "arm_wrestling.mp4", "flipping_pancake.mkv"])
@pytest.mark.parametrize("fully_convolutional", [False, True])
def test_served_scores_and_features_are_those_of_torch(
    client: Client, model: VideoModel, data_dir: Path, name: str, fully_convolutional: bool
) -> None:
    path = data_dir / "clips" / name
    served = client.predict(
        path, top_k=NUM_CLASSES, features=True, clip_scores=True, fully_convolutional=fully_convolutional
    )
    clips = read_clips(path, SPEC, Protocol(fully_convolutional=fully_convolutional)).clips
    scale, bias = SPEC.affine()
    with torch.inference_mode():
        normalised = torch.from_numpy(clips).float() * torch.from_numpy(scale) + torch.from_numpy(bias)
        logits, features = model(normalised.permute(0, 4, 1, 2, 3))
    assert logits.shape[2] == (4 if fully_convolutional else 1)
    expected = video_probabilities(logits.numpy(), "probabilities")
    scores = np.zeros(NUM_CLASSES)
    for score in served.top:
        scores[score.index] = score.score
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert served.features is not None
    np.testing.assert_allclose(served.features.mean, features.numpy().mean(0), rtol=1e-3, atol=1e-5)
    assert len(served.clips) == len(served.features.clips) == 10


def test_path_and_bytes_give_the_same_answer(client: Client, data_dir: Path) -> None:
    path = data_dir / "clips" / "untrimmed.mp4"
    sent = client.predict(path)
    named = client.predict(ServerPath(str(path)))
    assert sent.top == named.top


def test_salient_clips_of_an_untrimmed_video_lie_where_it_moves(client: Client, data_dir: Path) -> None:
    prediction = client.predict(data_dir / "clips" / "untrimmed.mp4", clips="salient", num_clips=2, timeline=True)
    assert prediction.timeline is not None
    points = prediction.timeline.points
    chosen = [p for p in points if p.selected]
    assert len(chosen) == 2
    assert min(p.score for p in chosen) >= max(p.score for p in points if not p.selected)


def test_the_command_line_from_predict_to_features_and_inspect(
    server: ServerProcess, data_dir: Path, tmp_path: Path
) -> None:
    def tenclip(*arguments: object, code: int = 0) -> str:
        command = [sys.executable, "-m", "tenclip_client", *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode == code, result.stderr
        assert "Traceback" not in result.stderr
        return result.stdout

    clips = data_dir / "clips"
    at = ("--server", server.address)
    predictions = json.loads(tenclip("predict", clips / "archery.avi", clips / "untrimmed.mp4", *at, "--json"))
    assert len(predictions) == 2
    tenclip("predict", data_dir / "odd" / "small_Mpeg4.mp4", *at, code=SOME_FAILED)
    out = tmp_path / "features.parquet"
    tenclip("features", clips, "--out", out, *at)

    matrix, table = read_features(out)
    assert matrix.shape[0] == table.num_rows
    assert table.column_names == [*COLUMNS, *STAMP_COLUMNS]
    assert table.num_rows == 6 * 10
    (info,) = json.loads(tenclip("inspect", clips / "archery.avi", "--json"))
    assert info["info"]["num_frames"] == 131
    assert "random" in tenclip("models", *at, "--json")
