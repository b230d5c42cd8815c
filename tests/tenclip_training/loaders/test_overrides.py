"""Another input than the preset's, another head, no classifier: done, recorded, or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tenclip_api.errors import CheckpointError
from tenclip_training.loaders import load_any, load_checkpoint, load_public_checkpoint
from tenclip_training.loaders.overrides import override_spec, protocol_for
from tenclip_training.loaders.presets import PRESETS
from tenclip_training.models import create_model
from tenclip_training.runs.checkpoint import save_checkpoint
from tenclip_video.spec import ClipSpec, Resize

from .helpers import assert_same_function, load, save, trained
from .reference import mmaction2, pytorchvideo, resnets3d, x3d
from .reference import torchvision_like as tv
from .test_families import random_clips

R34 = (3, 4, 6, 3)
OWN: dict[str, Any] = {"width": 4, "num_frames": 8, "crop": 56}


@pytest.fixture(scope="module")
def vmz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """R(2+1)D-34 as somebody fine-tuned it: its weights say nothing about its input."""
    return save(tmp_path_factory.mktemp("vmz") / "tuned.pth", trained(tv.vmz_r2plus1d(4, R34, num_classes=5)))


@pytest.mark.parametrize(
    ("changes", "field", "before", "after"),
    [
        ({"num_frames": 16}, "num_frames", 32, 16),
        ({"frame_stride": 2}, "frame_stride", 1, 2),
        ({"target_fps": 15.0}, "target_fps", None, 15.0),
        ({"resize": {"mode": "short_edge", "short_edge": 144}}, "resize.short_edge", 128, 144),
        ({"resize": Resize(mode="none")}, "resize.mode", "squash", "none"),
        ({"crop": 96}, "crop", 112, 96),
        ({"mean": [0.5, 0.5, 0.5]}, "mean", [0.43216, 0.394666, 0.37645], [0.5, 0.5, 0.5]),
        ({"value_range": "0-255"}, "value_range", "0-1", "0-255"),
        ({"color_order": "bgr"}, "color_order", "rgb", "bgr"),
    ],
)
def test_every_part_of_a_preset(changes: dict[str, Any], field: str, before: Any, after: Any, vmz: Path) -> None:
    _, spec, provenance = load_checkpoint(vmz, family="vmz-32f", clip_spec=changes)
    expected, _ = override_spec(PRESETS["vmz-32f"].clip_spec, changes)
    assert spec == expected
    assert provenance["clip_spec_changes"][field] == [before, after]
    assert any(note.startswith("input changed from vmz-32f: ") for note in provenance["notes"])
    assert provenance["published"] is None, "the authors' accuracy is of another input"


def test_a_whole_spec(vmz: Path) -> None:
    wanted = replace(PRESETS["vmz-8f"].clip_spec, num_frames=16, mean=(0.5, 0.5, 0.5))
    model, spec, provenance = load_checkpoint(vmz, family="vmz-8f", clip_spec=wanted)
    assert spec == wanted
    assert set(provenance["clip_spec_changes"]) == {"num_frames", "mean"}
    assert model.config["num_frames"] == 16


def test_the_head_is_made_for_the_input(vmz: Path) -> None:
    reference = trained(tv.vmz_r2plus1d(4, R34, num_classes=5))
    loaded = load_public_checkpoint(vmz, family="vmz", clip_spec={"num_frames": 16, "crop": 64})
    assert loaded.model.pool_size == (2, 4, 4)
    clips = random_clips(1, 3, 16, 64, 64)
    assert_same_function(loaded, reference, clips)
    whole = load_public_checkpoint(vmz, family="vmz", clip_spec={"num_frames": 16, "crop": 64}, head="global")
    assert whole.model.pool_size is None
    assert "network: head=global" in whole.provenance["notes"]
    assert_same_function(whole, reference, random_clips(1, 3, 16, 96, 96))


def test_a_given_number_of_frames_settles_between_presets_that_differ_in_nothing_else(vmz: Path) -> None:
    with pytest.raises(CheckpointError, match=r"vmz-8f .*; vmz-32f "):
        load_checkpoint(vmz, clip_spec={"frame_stride": 2})
    assert load_checkpoint(vmz, clip_spec={"num_frames": 16}).clip_spec.num_frames == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 16}, "ClipSpec has no field frames"),
        ({"resize": {"edge": 128}}, r"ClipSpec\.resize has no field edge"),
        ({"num_frames": "16"}, "a value of another type than ClipSpec takes"),
        ({"num_frames": 0}, "num_frames must be at least 1"),
        ({"crop": 224}, "a crop of 224 pixels does not fit into frames resized to 128"),
        ({"mean": [0.5]}, "mean and std need 3 values"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str, vmz: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"tuned\.pth: clip_spec: {message}"):
        load_checkpoint(vmz, family="vmz-8f", clip_spec=changes)


def test_another_head_that_does_not_exist(vmz: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tuned\.pth: head must be one of"):
        load_checkpoint(vmz, family="vmz-8f", head="max")  # type: ignore[arg-type]


def test_a_larger_crop_that_no_longer_fits_is_dropped_with_its_protocol(vmz: Path) -> None:
    loaded = load_public_checkpoint(vmz, family="vmz-8f", clip_spec={"resize": {"height": 112, "width": 112}})
    assert loaded.clip_spec.fully_convolutional_crop is None
    assert loaded.provenance["protocol"] == "ten-clip"
    assert protocol_for("vmz-10x3", loaded.clip_spec) == "mmaction2-10x3"
    assert protocol_for("tsn-3", loaded.clip_spec) == "tsn-3"


def test_presets_made_for_less_than_their_crop_keep_to_a_smaller_one(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pyth", trained(pytorchvideo.Net("slow", 4, num_classes=3)))
    assert load(path).model.config["crop"] == 224
    small = load_public_checkpoint(path, clip_spec={"crop": 112, "resize": {"short_edge": 128}})
    assert small.model.config["crop"] == 112
    assert small.model(torch.zeros(1, 3, 8, 112, 112))[0].shape == (1, 3, 1)


def test_same_spec_changes_nothing() -> None:
    spec = PRESETS["vmz-csn"].clip_spec
    assert override_spec(spec, spec) == (spec, {})
    assert override_spec(spec, {}) == (spec, {})
    assert override_spec(spec, ClipSpec())[1]["num_frames"] == [32, 16]


class TestFeaturesOnly:
    def test_a_classifier_is_left_out(self, vmz: Path) -> None:
        whole, backbone = load(vmz, "vmz-8f"), load_public_checkpoint(vmz, family="vmz-8f", features_only=True)
        clips = random_clips(2, 3, 8, 128, 128)
        with torch.no_grad():
            (_, expected), (logits, features) = whole.model(clips), backbone.model(clips)
        assert torch.equal(features, expected)
        assert (backbone.model.num_classes, logits.shape) == (0, (2, 0, 4))
        assert backbone.provenance["ignored"] == ["fc.bias", "fc.weight"]
        assert "it gives features and no predictions" in backbone.provenance["notes"][0]
        assert load_any(vmz, family="vmz-8f", features_only=True).labels is None

    @pytest.mark.parametrize("prefix", ["", "backbone.", "module.encoder."])
    def test_self_supervised_weights_have_none(self, prefix: str, tmp_path: Path) -> None:
        state = trained(resnets3d.ResNet(4, (1, 1, 1, 1), num_classes=700)).state_dict()
        backbone = {f"{prefix}{n}": v for n, v in state.items() if not n.startswith("fc.")}
        torch.save({"state_dict": backbone}, tmp_path / "ssl.pth")
        with pytest.raises(CheckpointError, match=r"without a classifier.*features_only=True \(--features-only\)"):
            load(tmp_path / "ssl.pth", "3d-resnets-2020")
        loaded = load_public_checkpoint(tmp_path / "ssl.pth", family="3d-resnets-2020", features_only=True)
        assert loaded.model.feature_dim == 32

    @pytest.mark.parametrize("bare", [True, False])
    def test_backbones_of_mmaction2(self, bare: bool, tmp_path: Path) -> None:
        for model, family in (
            (mmaction2.Recognizer("i3d", 4, num_classes=3), None),
            (x3d.MMAction2X3D(8, num_classes=3), "mmaction2-x3d-s"),
        ):
            state = {n: v for n, v in trained(model).state_dict().items() if n.startswith("backbone.")}
            state = {n.removeprefix("backbone.") if bare else n: v for n, v in state.items()}
            torch.save(state, tmp_path / "w.pth")
            loaded = load_public_checkpoint(tmp_path / "w.pth", family=family, features_only=True)
            assert loaded.model.num_classes == 0

    def test_heads_of_pre_training_are_left_out_and_parts_of_the_backbone_are_not(
        self, vmz: Path, tmp_path: Path
    ) -> None:
        state = {n: v for n, v in torch.load(vmz).items() if not n.startswith("fc.")}
        torch.save({**state, "projector.0.weight": torch.ones(3, 3)}, tmp_path / "w.pth")
        loaded = load_public_checkpoint(tmp_path / "w.pth", family="vmz-8f", features_only=True)
        assert loaded.provenance["ignored"] == ["projector.0.weight"]
        torch.save({**state, "layer1.0.attention.weight": torch.ones(3, 3)}, tmp_path / "w.pth")
        with pytest.raises(CheckpointError, match=r"1 unexpected: layer1\.0\.attention\.weight"):
            load_public_checkpoint(tmp_path / "w.pth", family="vmz-8f", features_only=True)


class TestOurOwn:
    @pytest.fixture
    def own(self, tmp_path: Path) -> Path:
        torch.manual_seed(0)
        model = create_model("r2plus1d_10", num_classes=3, **OWN)
        spec = ClipSpec(num_frames=8, crop=56, fully_convolutional_crop=None)
        save_checkpoint(tmp_path / "own.pt", model, clip_spec=spec, labels=["a", "b", "c"], provenance={"seed": 3})
        return tmp_path / "own.pt"

    def test_unchanged(self, own: Path) -> None:
        loaded = load_any(own)
        assert (loaded.labels, loaded.notes, loaded.provenance) == (("a", "b", "c"), (), {"seed": 3})

    def test_another_input_and_head(self, own: Path) -> None:
        loaded = load_any(own, clip_spec={"num_frames": 16, "crop": 64}, head="global")
        assert (loaded.clip_spec.num_frames, loaded.model.config["crop"]) == (16, 64)
        assert loaded.model.pool_size is None
        assert loaded.provenance["seed"] == 3
        assert loaded.provenance["clip_spec_changes"] == {"num_frames": [8, 16], "crop": [56, 64]}
        clips = random_clips(1, 3, 8, 56, 56)
        torch.testing.assert_close(loaded.model(clips), load_any(own).model(clips))

    def test_features_only(self, own: Path) -> None:
        loaded = load_any(own, features_only=True)
        assert (loaded.model.num_classes, loaded.labels) == (0, None)
        clips = random_clips(1, 3, 8, 56, 56)
        assert torch.equal(loaded.model(clips)[1], load_any(own).model(clips)[1])

    def test_refused(self, own: Path) -> None:
        with pytest.raises(CheckpointError, match=r"own\.pt: .*takes no depht"):
            load_any(own, model_options={"depht": 3})
        with pytest.raises(CheckpointError, match=r"own\.pt: ClipSpec has no field frames"):
            load_any(own, clip_spec={"frames": 3})
