"""Settings that shapes do not show: a file's own configuration decides or refuses, then the caller decides."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tenclip_api.errors import CheckpointError
from tenclip_training.loaders import load_public_checkpoint
from tenclip_training.loaders.configuration import parse_python, parse_yaml, plain, read_configuration

from .helpers import assert_same_function, load, save, trained
from .reference import mmaction2, pytorchvideo, resnets3d, slowfast, x3d
from .reference import torchvision_like as tv
from .test_families import random_clips

K = 7
Wrap = Callable[[dict[str, Tensor]], Any]

MMACTION2 = """
_base_ = ['../../_base_/default_runtime.py']
custom_imports = None
model = dict(
    type='Recognizer3D',
    backbone=dict({backbone}, depth=50, pretrained='torchvision://resnet50', norm_eval=False),
    cls_head=dict(type='I3DHead', num_classes=400, in_channels=2048, spatial_type='{pool}', dropout_ratio=0.5),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        format_shape='NCTHW'))
train_pipeline = [dict(type='SampleFrames', clip_len=99, frame_interval=9, num_clips=1)]
test_pipeline = [
    dict(type='DecordInit', io_backend='disk'),
    dict(type='SampleFrames', clip_len={frames}, frame_interval={stride}, num_clips=10, test_mode=True),
    dict(type='Resize', scale=(-1, {side})),
    dict(type='ThreeCrop', crop_size={side}),
]
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01 * 4))
"""


def with_config(
    backbone: str, frames: int, stride: int, *, side: int = 224, pool: str = "avg", key: str = "cfg"
) -> Wrap:
    """The weights beside a run's config, in the places of MMAction2 1.x (`cfg`) and 0.x (`config`)."""
    text = MMACTION2.format(backbone=backbone, frames=frames, stride=stride, side=side, pool=pool)
    return lambda state: {"meta": {key: text, "epoch": 100}, "state_dict": state, "message_hub": {}}


@pytest.fixture(scope="module")
def c2d() -> nn.Module:
    return trained(mmaction2.Recognizer("c2d", 4, num_classes=K))


@pytest.mark.parametrize("key", ["cfg", "config"])
def test_c2d_is_told_from_tsn_by_the_configuration(key: str, c2d: nn.Module, tmp_path: Path) -> None:
    path = save(tmp_path / "w.pth", c2d, with_config("type='C2D'", 8, 8, key=key))
    loaded = load(path)
    assert (loaded.model.architecture, loaded.provenance["preset"]) == ("mmaction2_c2d_r50", "mmaction2-c2d-8x8")
    assert_same_function(loaded, c2d, random_clips(1, 3, 8, 64, 64))
    with pytest.raises(CheckpointError, match="tensors and its own configuration are those of mmaction2_c2d_r50"):
        load(path, "mmaction2-tsn")
    tsn = load(save(tmp_path / "tsn.pth", c2d, with_config("type='ResNet'", 1, 1, side=256)))
    assert (tsn.model.architecture, tsn.provenance["notes"][1:]) == ("tsn_r50", [])


def test_c2d_without_a_configuration_is_a_question(c2d: nn.Module, tmp_path: Path) -> None:
    path = save(tmp_path / "w.pth", c2d)
    notes = " ".join(load(path).provenance["notes"])
    assert "C2D has the same tensors as a TSN: for that, choose family=mmaction2-c2d-8x8" in notes
    assert load(path, "mmaction2-c2d-16x4").clip_spec.num_frames == 16


def test_the_input_in_the_configuration_is_used(c2d: nn.Module, tmp_path: Path) -> None:
    loaded = load(save(tmp_path / "w.pth", c2d, with_config("type='C2D'", 8, 4, side=256)))
    spec = loaded.clip_spec
    assert (spec.num_frames, spec.frame_stride, spec.crop, spec.resize.short_edge) == (8, 4, 256, 256)
    assert "from its own configuration: frame_stride 4 instead of 8" in " ".join(loaded.provenance["notes"])
    assert loaded.provenance["clip_spec_changes"]["frame_stride"] == [8, 4]
    assert loaded.provenance["published"] is None


def test_the_callers_preset_is_taken_and_the_configuration_named(tmp_path: Path) -> None:
    slow = trained(mmaction2.Recognizer("slowonly", 4, num_classes=K))
    path = save(tmp_path / "w.pth", slow, with_config("type='ResNet3dSlowOnly'", 4, 16, side=256))
    assert load(path).provenance["preset"] == "mmaction2-4x16"
    loaded = load(path, "mmaction2-8x8")
    assert loaded.clip_spec.num_frames == 8
    assert "its own configuration says num_frames 4 instead of 8" in " ".join(loaded.provenance["notes"])


@pytest.mark.parametrize(
    ("kind", "backbone", "message"),
    [
        ("2d", "type='ResNetTSM'", "says that it is a ResNetTSM, but its tensors are those of tsn_r50"),
        ("i3d", "type='ResNet3d', style='caffe'", "says style=caffe; mmaction2_i3d_r50 in the zoo has pytorch"),
        ("slowonly", "type='ResNet3d', conv1_kernel=(1, 7, 7)", "says conv1_stride_t=2; slowonly_r50 .* has 1"),
        ("ir", "type='ResNet3dCSN', with_pool2=True", "says with_pool2=True"),
        ("r2plus1d", "type='ResNet2Plus1d', temporal_strides=(1, 1, 1, 1)", r"says temporal_strides=\[1, 1, 1, 1\]"),
    ],
)
def test_settings_that_the_zoo_does_not_have_are_refused(
    kind: str, backbone: str, message: str, tmp_path: Path
) -> None:
    model = trained(mmaction2.Recognizer(kind, 4, num_classes=K))
    path = save(tmp_path / "w.pth", model, with_config(backbone, 32, 2, side=256))
    with pytest.raises(CheckpointError, match=rf"w\.pth: its own configuration {message}"):
        load(path)


def test_a_head_that_takes_the_maximum_is_refused(c2d: nn.Module, tmp_path: Path) -> None:
    path = save(tmp_path / "w.pth", c2d, with_config("type='C2D'", 8, 8, pool="max"))
    with pytest.raises(CheckpointError, match="its own configuration pools by 'max'"):
        load(path)


def test_strides_of_i3d_come_from_the_configuration(tmp_path: Path) -> None:
    reference = trained(mmaction2.Recognizer("i3d-heavy", 4, (2, 1, 1, 2), num_classes=K))
    settings = "type='ResNet3d', conv1_stride_t=1, pool1_stride_t=1, with_pool2=True"
    loaded = load(save(tmp_path / "w.pth", reference, with_config(settings, 32, 2, side=256)))
    assert_same_function(loaded, reference, random_clips(1, 3, 8, 64, 64))
    assert "network: stem_time_stride=1, pool_time_stride=1" in loaded.provenance["notes"]


def test_epsilon_comes_from_the_configuration(tmp_path: Path) -> None:
    slow = trained(mmaction2.Recognizer("slowonly", 4, num_classes=K))
    for part in slow.modules():
        if isinstance(part, nn.BatchNorm3d):
            part.eps = 1e-2
    settings = "type='ResNet3dSlowOnly', norm_cfg=dict(type='SyncBN', eps=1e-2)"
    loaded = load(save(tmp_path / "w.pth", slow, with_config(settings, 8, 8, side=256)))
    assert_same_function(loaded, slow, random_clips(1, 3, 8, 64, 64))


PYSLOWFAST = """
DATA:
  NUM_FRAMES: {frames}
  SAMPLING_RATE: {stride}
  TEST_CROP_SIZE: {side}
  MEAN:
  - 0.45
  - 0.45
  - 0.45
  STD: [0.225, 0.225, 0.225]
MODEL:
  ARCH: {arch}
  NUM_CLASSES: 400
SLOWFAST:
  ALPHA: {alpha}
"""


def pyslowfast(arch: str, frames: int, stride: int, *, side: int = 256, alpha: int = 4) -> Wrap:
    text = PYSLOWFAST.format(arch=arch, frames=frames, stride=stride, side=side, alpha=alpha)
    return lambda state: {"epoch": 1, "model_state": state, "optimizer_state": {}, "cfg": text}


def test_pyslowfasts_configuration(tmp_path: Path) -> None:
    path = tmp_path / "w.pyth"
    slow = trained(pytorchvideo.Net("slow", 4, num_classes=K))
    loaded = load(save(path, slow, pyslowfast("slow", 4, 16)))
    assert (loaded.provenance["preset"], loaded.provenance["notes"][1:]) == ("pytorchvideo-4x16", [])
    with pytest.raises(CheckpointError, match=r"says that it is i3d, but its tensors are .*slow_r50"):
        load(save(path, slow, pyslowfast("i3d", 8, 8)))
    net = trained(x3d.PytorchvideoX3D(8, frames=13, crop=160, num_classes=K))
    assert load(save(path, net, pyslowfast("x3d", 13, 6, side=182))).provenance["preset"] == "pytorchvideo-x3d-s"
    reference = trained(slowfast.PytorchvideoSlowFast(8, kernel=7, alpha=8, frames=16, num_classes=K))
    loaded = load(save(path, reference, pyslowfast("slowfast", 16, 4, alpha=8)))
    assert_same_function(loaded, reference, random_clips(1, 3, 16, 224, 224))


def test_names_of_the_hub_in_hyper_parameters(tmp_path: Path) -> None:
    net = trained(x3d.PytorchvideoX3D(8, frames=13, crop=160, num_classes=K))

    def lightning(name: str) -> Wrap:
        return lambda s: {"state_dict": {f"model.{n}": v for n, v in s.items()}, "hyper_parameters": {"model": name}}

    assert load(save(tmp_path / "w.ckpt", net, lightning("x3d_s"))).provenance["preset"] == "pytorchvideo-x3d-s"
    with pytest.raises(CheckpointError, match="says that it is slow_r50, but its tensors are those of"):
        load(save(tmp_path / "w.ckpt", net, lightning("slow_r50")))


def test_options_of_training_scripts(tmp_path: Path) -> None:
    vmz = trained(tv.vmz_r2plus1d(4, (3, 4, 6, 3), num_classes=400))
    path = tmp_path / "w.pth"
    loaded = load(save(path, vmz, lambda s: {"model": s, "args": argparse.Namespace(num_frames=32, use_pool1=True)}))
    assert (loaded.clip_spec.num_frames, loaded.model.config["stem_pool"]) == (32, True)
    deep = trained(resnets3d.ResNet(4, deep=True, num_classes=700))
    loaded = load(save(path, deep, lambda s: {"state_dict": s, "opt": {"no_max_pool": True, "sample_duration": 64}}))
    assert (loaded.clip_spec.num_frames, loaded.model.config["stem_pool"]) == (64, False)
    frames = trained(mmaction2.Recognizer("2d", 4, num_classes=K))
    options = {"model_name": "c2d_r50", "num_frames": 8, "sampling_rate": 8}
    lightning = load(save(path, frames, lambda s: {"state_dict": s, "hyper_parameters": options}))
    assert lightning.model.architecture == "mmaction2_c2d_r50"


def test_pools_that_no_weight_shows_are_chosen_by_the_caller(tmp_path: Path) -> None:
    state = trained(tv.vmz_r2plus1d(4, (3, 8, 36, 3), deep=True, num_classes=400)).state_dict()
    torch.save(state, tmp_path / "w.pth")
    plain_stem = load(tmp_path / "w.pth")
    assert "VMZ's PyTorch code has one there by default" in " ".join(plain_stem.provenance["notes"])
    pooled = load_public_checkpoint(tmp_path / "w.pth", model_options={"stem_pool": True})
    assert (plain_stem.model.pool_size, pooled.model.pool_size) == ((4, 7, 7), (4, 4, 4))
    assert "does not show in weights" not in " ".join(pooled.provenance["notes"])
    assert pooled.provenance["model_options"] == {"stem_pool": True}
    with pytest.raises(CheckpointError, match=r"w\.pth: r2plus1d_152 takes no use_pool; it takes .*stem_pool"):
        load_public_checkpoint(tmp_path / "w.pth", model_options={"use_pool": True})


def test_3d_resnets_without_a_max_pool(tmp_path: Path) -> None:
    reference = resnets3d.ResNet(4, (1, 1, 1, 1), num_classes=700)
    assert isinstance(reference.maxpool, nn.MaxPool3d)
    reference.maxpool = nn.Identity()  # type: ignore[assignment]
    trained(reference)
    path = save(tmp_path / "w.pth", reference)
    assert "no_max_pool" in " ".join(load(path).provenance["notes"])
    loaded = load_public_checkpoint(path, model_options={"stem_pool": False})
    assert_same_function(loaded, reference, random_clips(1, 3, 16, 64, 64))


class TestParsing:
    def test_python_is_parsed_and_not_run(self, tmp_path: Path) -> None:
        target = tmp_path / "owned"
        text = f"a = __import__('os').mkdir({str(target)!r})\nb = dict(c=[1, (2, 3)], **dict(d=4))\ne = b\nf = 2 * 3\n"
        assert parse_python(text) == {
            "a": None,
            "b": {"c": [1, [2, 3]], "d": 4},
            "e": {"c": [1, [2, 3]], "d": 4},
            "f": None,
        }
        assert not target.exists()
        assert parse_python("this is no python (") == {}

    def test_yaml(self) -> None:
        assert parse_yaml("A:\n  B: 3\n  C: [1, 2]\nD:\n- 0.5\n- x\nE: true\n") == {
            "B": 3,
            "C": [1, 2],
            "E": True,
            "D": [0.5, "x"],
        }

    def test_nested_dicts_and_values_of_another_kind(self) -> None:
        config = read_configuration({"cfg": {"model": {"backbone": {"type": "C2D"}}, "test_pipeline": "none"}})
        assert (config.backbone, config.num_frames) == ({"type": "C2D"}, None)
        assert (
            read_configuration({"args": {"num_frames": True, "mean": [1, 2], "frame_stride": -3}}).frame_stride is None
        )
        assert read_configuration({"meta": 3, "config": None}).backbone == {}
        deep: dict[str, Any] = {}
        deep["again"] = deep
        assert plain(deep)["again"]


def test_frames_in_the_configuration_do_not_settle_the_normalisation(tmp_path: Path) -> None:
    # 3D-ResNets of 2018 takes 0-255 less a mean, that of 2020 takes 0-1; the number of frames tells neither.
    reference = trained(resnets3d.ResNet(4, (3, 4, 6, 3), deep=True, num_classes=K))
    path = save(tmp_path / "w.pth", reference, lambda s: {"state_dict": s, "opt": {"sample_duration": 32}})
    with pytest.raises(CheckpointError, match=r"choose with --family .*3d-resnets-2018 .*3d-resnets-2020 "):
        load(path)
    loaded = load_public_checkpoint(path, family="3d-resnets-2020", clip_spec={"num_frames": 32})
    assert (loaded.clip_spec.num_frames, loaded.clip_spec.value_range) == (32, "0-1")
