"""Families by names and shapes: at the real sizes (on the meta device), and asking where shapes do not tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tenclip_api.errors import CheckpointError
from tenclip_training.loaders.files import WeightsFile
from tenclip_training.loaders.layouts import recognise
from tenclip_training.loaders.load import load_public_checkpoint
from tenclip_training.models import create_model

from .helpers import load, save, trained
from .reference import efficientnet, i3d, mmaction2, pytorchvideo, resnets3d, slowfast, x3d
from .reference import torchvision_like as tv

R18, R34, R101, R152 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)
R50, R200 = R34, (3, 24, 36, 3)

REAL: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "torchvision r2plus1d_18": (lambda: tv.torchvision_r2plus1d(64, R18), "torchvision_r2plus1d_18"),
    "torchvision r3d_18": (lambda: tv.torchvision_r3d(64, R18), "torchvision_r3d_18"),
    "torchvision mc3_18": (lambda: tv.torchvision_mc3(64, R18), "torchvision_mc3_18"),
    "vmz 18": (lambda: tv.vmz_r2plus1d(64, R18), "r2plus1d_18"),
    "vmz 34": (lambda: tv.vmz_r2plus1d(64, R34), "r2plus1d_34"),
    "vmz 101": (lambda: tv.vmz_r2plus1d(64, R101, deep=True), "r2plus1d_101"),
    "vmz 152": (lambda: tv.vmz_r2plus1d(64, R152, deep=True), "r2plus1d_152"),
    "vmz ir-CSN-152": (lambda: tv.vmz_csn(64, "ir", R152), "ir_csn_152"),
    "vmz ip-CSN-152": (lambda: tv.vmz_csn(64, "ip", R152), "ip_csn_152"),
    "vmz ip-CSN-50 as its converter has it": (lambda: tv.vmz_csn(64, "ip", (3, 8, 6, 3)), "ip_csn_50"),
    "3d-resnets r3d 18 A": (lambda: resnets3d.ResNet(64, R18, shortcut="A"), "resnets3d_r3d_18"),
    "3d-resnets r3d 34": (lambda: resnets3d.ResNet(64, R34), "resnets3d_r3d_34"),
    "3d-resnets r3d 50": (lambda: resnets3d.ResNet(64, R50, deep=True), "resnets3d_r3d_50"),
    "3d-resnets r3d 101": (lambda: resnets3d.ResNet(64, R101, deep=True), "resnets3d_r3d_101"),
    "3d-resnets r3d 200": (lambda: resnets3d.ResNet(64, R200, deep=True), "resnets3d_r3d_200"),
    "3d-resnets r2p1d 18": (lambda: resnets3d.ResNet(64, R18, factorised=True), "resnets3d_r2plus1d_18"),
    "3d-resnets r2p1d 50": (
        lambda: resnets3d.ResNet(64, R50, factorised=True, deep=True),
        "resnets3d_r2plus1d_50",
    ),
    "torchvision resnet18": (lambda: resnets3d.ResNet(64, R18, dims=2), "r2d_18"),
    "torchvision resnet50": (lambda: resnets3d.ResNet(64, R50, deep=True, dims=2), "r2d_50"),
    "mmaction2 r2plus1d": (lambda: mmaction2.Recognizer("r2plus1d", 64, R34), "mmaction2_r2plus1d_34"),
    "mmaction2 slowonly r50": (lambda: mmaction2.Recognizer("slowonly", 64, R50), "slowonly_r50"),
    "mmaction2 slowonly r101": (lambda: mmaction2.Recognizer("slowonly", 64, R101), "slowonly_r101"),
    "mmaction2 ir-CSN-50": (lambda: mmaction2.Recognizer("ir", 64, R50), "ir_csn_50"),
    "mmaction2 ip-CSN-152": (lambda: mmaction2.Recognizer("ip", 64, R152), "ip_csn_152"),
    "mmaction2 TSN": (lambda: mmaction2.Recognizer("2d", 64, R50), "tsn_r50"),
    "mmaction2 1.x omni": (lambda: mmaction2.OmniRecognizer(64, R50), "omni_slowonly_r50"),
    "pytorchvideo slow": (lambda: pytorchvideo.Net("slow", 64, R50), "pytorchvideo_slow_r50"),
    "pytorchvideo csn": (lambda: pytorchvideo.Net("csn", 64, R101), "pytorchvideo_csn_r101"),
    "pytorchvideo r2plus1d": (lambda: pytorchvideo.Net("r2plus1d", 64, R50), "pytorchvideo_r2plus1d_r50"),
    "mmaction2 I3D-R50": (lambda: mmaction2.Recognizer("i3d", 64, R50), "mmaction2_i3d_r50"),
    "mmaction2 SlowFast": (lambda: slowfast.MMAction2SlowFast(64, R50), "mmaction2_slowfast_r50"),
    "mmaction2 SlowFast R101 with R50": (
        lambda: slowfast.MMAction2SlowFast(64, R101, R50, kernel=5, alpha=8),
        "mmaction2_slowfast_r101",
    ),
    "mmaction2 X3D": (lambda: x3d.MMAction2X3D(24, (3, 5, 11, 7)), "mmaction2_x3d_m"),
    "pytorchvideo c2d": (lambda: pytorchvideo.Net("c2d", 64, R50), "pytorchvideo_c2d_r50"),
    "pytorchvideo i3d": (lambda: pytorchvideo.Net("i3d", 64, R50), "pytorchvideo_i3d_r50"),
    "pytorchvideo slowfast": (lambda: slowfast.PytorchvideoSlowFast(64, R50), "pytorchvideo_slowfast_r50"),
    "pytorchvideo slowfast 101": (
        lambda: slowfast.PytorchvideoSlowFast(64, R101, kernel=5),
        "pytorchvideo_slowfast_r101",
    ),
    "pytorchvideo x3d_m": (
        lambda: x3d.PytorchvideoX3D(24, (3, 5, 11, 7), frames=16, crop=224),
        "pytorchvideo_x3d_m",
    ),
    "pytorchvideo x3d_l": (
        lambda: x3d.PytorchvideoX3D(24, (5, 10, 25, 15), frames=16, crop=312),
        "pytorchvideo_x3d_l",
    ),
    "i3d": (lambda: i3d.InceptionI3d(64), "i3d"),
    "efficientnet-lite0": (lambda: efficientnet.EfficientNet(32), "tsn_efficientnet_lite0"),
    "efficientnet-lite1": (lambda: efficientnet.EfficientNet(32, sizes=efficientnet.LITE1), "tsn_efficientnet_lite1"),
    "efficientnet-lite2": (lambda: efficientnet.EfficientNet(32, sizes=efficientnet.LITE2), "tsn_efficientnet_lite2"),
}


def weights_file(tensors: dict[str, Tensor], **about: Any) -> WeightsFile:
    return WeightsFile(tensors=tensors, format="torch", sha256="", **about)


@pytest.mark.parametrize("title", sorted(REAL))
def test_real_sizes(title: str) -> None:
    make, architecture = REAL[title]
    with torch.device("meta"):
        tensors = make().state_dict()
        found = recognise(weights_file(tensors))
        assert found is not None
        plan, _ = found
        assert plan.architecture == architecture
        config = {**plan.config, **dict(plan.candidates[0].model)}
        classes = next(tensors[n].shape[0] for n, ours in plan.names.items() if ours == "fc.weight")
        expected = create_model(architecture, num_classes=classes, **config).state_dict()
    # One tensor of theirs for each of ours, of as many values.
    assert sorted(plan.names.values()) == sorted(expected)
    assert len(plan.names) + len(plan.ignored) == len(tensors)
    for theirs, ours in plan.names.items():
        assert tensors[theirs].numel() == expected[ours].numel()
        assert tensors[theirs].squeeze().shape == expected[ours].squeeze().shape


def test_clip_length_of_r2plus1d_34_must_be_chosen(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pth", trained(tv.vmz_r2plus1d(4, R34, num_classes=400)))
    for family in (None, "vmz"):
        with pytest.raises(CheckpointError, match=r"w\.pth: r2plus1d_34, .*--family.* vmz-8f .*; vmz-32f "):
            load(path, family)
    assert load(path, "vmz-8f").clip_spec.num_frames == 8
    loaded = load(path, "ig65m-32f")
    assert loaded.clip_spec.num_frames == 32
    assert (loaded.provenance["family"], loaded.provenance["label_source"]) == ("ig65m", "kinetics400")


def test_a_family_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pth", trained(tv.vmz_r2plus1d(4, num_classes=3)))
    with pytest.raises(CheckpointError, match="those of r2plus1d_10, which 'torchvision' does not have; it may be vmz"):
        load(path, "torchvision")
    with pytest.raises(CheckpointError, match="no family 'torch-vision'; did you mean torchvision"):
        load(path, "torch-vision")


def test_3d_resnets_release(tmp_path: Path) -> None:
    model = trained(resnets3d.ResNet(4, deep=True, num_classes=400))
    bare = save(tmp_path / "bare.pth", model)
    with pytest.raises(CheckpointError, match=r"3d-resnets-2018 .*; 3d-resnets-2020 "):
        load(bare)
    assert load(bare, "3d-resnets-2018").clip_spec.mean == (114.7748, 107.7354, 99.475)
    parallel = save(tmp_path / "p.pth", model, lambda s: {"state_dict": {f"module.{n}": v for n, v in s.items()}})
    assert load(parallel).provenance["preset"] == "3d-resnets-2018"
    merged = save(tmp_path / "km.pth", trained(resnets3d.ResNet(4, deep=True, num_classes=1039)))
    assert load(merged).provenance["preset"] == "3d-resnets-2020"


def test_mmaction2_config_in_the_file_decides(tmp_path: Path) -> None:
    def with_config(clip_len: int, interval: int, mean: float = 123.675) -> Callable[[dict[str, Tensor]], Any]:
        text = mmaction2.config_text(clip_len, interval, mean)
        return lambda state: {"meta": {"config": text}, "state_dict": state}

    slow = trained(mmaction2.Recognizer("slowonly", 4, num_classes=3))
    with pytest.raises(CheckpointError, match=r"mmaction2-4x16 .*; mmaction2-8x8 "):
        load(save(tmp_path / "a.pth", slow))
    assert load(save(tmp_path / "b.pth", slow, with_config(4, 16))).provenance["preset"] == "mmaction2-4x16"
    assert load(save(tmp_path / "c.pth", slow, with_config(8, 8))).clip_spec.frame_stride == 8
    csn = trained(mmaction2.Recognizer("ip", 4, num_classes=3))
    with pytest.raises(CheckpointError, match=r"mmaction2-32x2 .*; mmaction2-vmz-32x2 "):
        load(save(tmp_path / "d.pth", csn))
    ported = load(save(tmp_path / "e.pth", csn, with_config(32, 2, 110.2008)))
    assert ported.clip_spec.mean[0] == 110.2008


def test_pytorchvideo_slow_says_what_it_assumed(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pyth", trained(pytorchvideo.Net("slow", 4, num_classes=3)))
    loaded = load(path)
    assert loaded.clip_spec.num_frames == 8
    assert "choose pytorchvideo-4x16" in " ".join(loaded.provenance["notes"])
    chosen = load(path, "pytorchvideo-4x16")
    assert chosen.clip_spec.num_frames == 4
    assert "choose" not in " ".join(chosen.provenance["notes"])


def test_file_name_has_no_say(tmp_path: Path) -> None:
    path = save(tmp_path / "r2plus1d_34_clip32_ft_kinetics_from_ig65m.pkl", trained(tv.torchvision_r3d(4)))
    assert load(path).model.architecture == "torchvision_r3d_18"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"conv1.weight": torch.zeros(8, 3, 3, 7, 7)}, "layers none of blocks"),
        ({"encoder.weight": torch.zeros(3)}, "of no family known here; they are named encoder.weight"),
        ({"blocks.0.multipathway_blocks.0.conv.weight": torch.zeros(1)}, "several pathways that is not SlowFast"),
        ({"_conv_stem.weight": torch.zeros(8, 3, 3, 3), "_blocks.0._se_reduce.weight": torch.zeros(1)}, "squeeze"),
    ],
)
def test_other_networks_are_refused(tensors: dict[str, Tensor], message: str, tmp_path: Path) -> None:
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "w.pth")


def test_resnext_of_3d_resnets_is_refused(tmp_path: Path) -> None:
    model = resnets3d.ResNet(4, deep=True)
    state = model.state_dict()
    state["layer1.0.conv2.weight"] = state["layer1.0.conv2.weight"][:, :1]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="ResNeXt"):
        load(tmp_path / "w.pth")


def test_flow_networks_are_refused_by_the_shape_of_their_stem(tmp_path: Path) -> None:
    state = i3d.InceptionI3d(8, num_classes=3).state_dict()
    state["Conv3d_1a_7x7.conv3d.weight"] = state["Conv3d_1a_7x7.conv3d.weight"][:, :2]
    torch.save(state, tmp_path / "flow_imagenet.pt")
    with pytest.raises(CheckpointError, match=r"conv3d.weight is \[8, 2, 7, 7, 7\], needed is \[8, 3, 7, 7, 7\]"):
        load_public_checkpoint(tmp_path / "flow_imagenet.pt")
