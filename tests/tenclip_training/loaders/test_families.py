"""Every public family: names and shapes as its authors save them, outputs number by number.

The references (`reference/`) are narrow and short; `test_recognition` has the real sizes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .helpers import NORMS, assert_same_function, load, relative_error, save, trained
from .reference import caffe2, efficientnet, i3d, mmaction2, pytorchvideo, resnets3d
from .reference import torchvision_like as tv

K = 7  # classes


def random_clips(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


TORCHVISION: dict[str, Callable[[], nn.Module]] = {
    "torchvision_r2plus1d_18": lambda: tv.torchvision_r2plus1d(8, (2, 1, 1, 2), num_classes=K),
    "torchvision_r3d_18": lambda: tv.torchvision_r3d(8, (1, 2, 1, 1), num_classes=K),
    "torchvision_mc3_18": lambda: tv.torchvision_mc3(8, (1, 2, 1, 1), num_classes=K),
}


@pytest.mark.parametrize("name", sorted(TORCHVISION))
def test_torchvision(name: str, tmp_path: Path) -> None:
    reference = trained(TORCHVISION[name]())
    loaded = load(save(tmp_path / "w.pth", reference))
    assert loaded.model.architecture == name
    assert loaded.provenance["preset"] == "torchvision"
    assert loaded.model.num_classes == K
    # Also above its own crop: the authors pool over the whole map.
    for side in (64, 80):
        assert_same_function(loaded, reference, random_clips(2, 3, 16, side, side))


VMZ: dict[str, tuple[Callable[[], tv.VideoResNet], str, tuple[int, int, int]]] = {
    "r2plus1d_10": (lambda: tv.vmz_r2plus1d(8, num_classes=K), "vmz", (32, 112, 128)),
    "r2plus1d_50": (lambda: tv.vmz_r2plus1d(4, (2, 1, 1, 2), deep=True, num_classes=K), "vmz", (32, 112, 128)),
    "ir_csn_50": (lambda: tv.vmz_csn(8, "ir", (2, 1, 1, 1), num_classes=K), "vmz-csn", (32, 224, 256)),
    "ip_csn_50": (lambda: tv.vmz_csn(8, "ip", (1, 2, 1, 1), num_classes=K), "vmz-csn", (32, 224, 256)),
}


@pytest.mark.parametrize("form", ["pytorch", "caffe2"])
@pytest.mark.parametrize("name", sorted(VMZ))
def test_vmz(name: str, form: str, tmp_path: Path) -> None:
    make, preset, (frames, crop, larger) = VMZ[name]
    reference = trained(make())
    path = tmp_path / "weights"
    if form == "pytorch":
        save(path, reference, lambda state: {"model": state, "epoch": 3})
    else:
        path.write_bytes(caffe2.python2_pickle(caffe2.blobs_of(reference)))
    loaded = load(path)
    assert loaded.model.architecture == name
    assert loaded.provenance["preset"] == preset
    assert loaded.provenance["format"] == ("torch" if form == "pytorch" else "caffe2")
    assert (loaded.clip_spec.num_frames, loaded.clip_spec.crop) == (frames, crop)
    assert loaded.clip_spec.fully_convolutional_crop == larger
    if form == "caffe2":
        # The two forms are the same tensors, and those were compared above.
        state = {n: v for n, v in reference.state_dict().items() if not n.endswith("num_batches_tracked")}
        assert all(torch.equal(loaded.model.state_dict()[n], v) for n, v in state.items())
        return
    # The smallest clip that fills the head's pool.
    assert_same_function(loaded, reference, random_clips(1, 3, frames - 7, crop - 8, crop - 8), positions=one)


def one(logits: Tensor) -> Tensor:
    assert logits.shape[2] == 1
    return logits[:, :, 0]


def test_fully_convolutional_as_in_caffe2(tmp_path: Path) -> None:
    """The pool becomes (T/8, 7, 7) with stride 1 and the classifier a 1x1x1 convolution (IG-65M, section 4.4)."""
    reference = trained(tv.vmz_r2plus1d(8, num_classes=K))
    loaded = load(save(tmp_path / "w.pth", reference))
    clips = random_clips(1, 3, 32, 128, 128)
    with torch.no_grad():
        maps = F.avg_pool3d(reference.maps(clips), (4, 7, 7), stride=1)
        expected = F.conv3d(maps, reference.fc.weight[:, :, None, None, None], reference.fc.bias)
        got = loaded.model(clips)[0]
    assert got.shape == (1, K, 4)
    assert relative_error(got, expected.flatten(2)) < 1e-5


@pytest.mark.parametrize("classes", [359, 487])
def test_ig65m_tells_its_clip_by_its_classes(classes: int, tmp_path: Path) -> None:
    reference = trained(tv.vmz_r2plus1d(4, (3, 4, 6, 3), num_classes=classes))
    loaded = load(save(tmp_path / "w.pth", reference), family="ig65m")
    assert loaded.model.architecture == "r2plus1d_34"
    assert loaded.clip_spec.num_frames == (8 if classes == 487 else 32)
    assert loaded.provenance["label_source"] is None
    assert "labels are numbers" in loaded.provenance["notes"][0]
    frames = loaded.clip_spec.num_frames
    assert_same_function(loaded, reference, random_clips(1, 3, frames, 112, 112))


RESNETS3D: dict[str, dict[str, Any]] = {
    "resnets3d_r3d_10": {},
    "resnets3d_r3d_18": {"layers": (2, 2, 2, 2), "shortcut": "A"},
    "resnets3d_r3d_34": {"layers": (3, 4, 6, 3), "stem_frames": 3},  # conv1_t_size
    "resnets3d_r3d_50": {"layers": (2, 1, 1, 1), "deep": True},
    "resnets3d_r2plus1d_18": {"layers": (2, 1, 2, 1), "factorised": True},
    "resnets3d_r2plus1d_50": {"layers": (2, 1, 1, 1), "factorised": True, "deep": True},
}


@pytest.mark.parametrize("name", sorted(RESNETS3D))
def test_3d_resnets(name: str, tmp_path: Path) -> None:
    arguments = dict(RESNETS3D[name])
    reference = trained(resnets3d.ResNet(8, num_classes=K, **arguments))
    first = arguments.get("shortcut") == "A"

    def wrap(state: dict[str, Tensor]) -> Any:
        if first:  # as the code of 2018 saves a DataParallel model
            return {"epoch": 9, "arch": "resnet-18", "state_dict": {f"module.{n}": v for n, v in state.items()}}
        return {"epoch": 200, "arch": "resnet-50", "state_dict": state, "optimizer": {}, "scheduler": {"T_max": 2}}

    loaded = load(save(tmp_path / "save_200.pth", reference, wrap))
    assert loaded.model.architecture == name
    assert loaded.provenance["preset"] == ("3d-resnets-2018" if first else "3d-resnets-2020")
    assert loaded.clip_spec.value_range == ("0-255" if first else "0-1")
    assert_same_function(loaded, reference, random_clips(2, 3, 16, 112, 112))


def test_torchvision_2d_resnet(tmp_path: Path) -> None:
    reference = trained(resnets3d.ResNet(8, (2, 1, 1, 1), deep=True, dims=2, num_classes=K))
    loaded = load(save(tmp_path / "resnet.pth", reference))
    assert loaded.model.architecture == "r2d_50"
    assert loaded.provenance["preset"] == "torchvision-2d"

    class OnFrame(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = reference

        def forward(self, clips: Tensor) -> Tensor:
            out: Tensor = self.net(clips[:, :, 0])
            return out

    assert_same_function(loaded, OnFrame(), random_clips(2, 3, 1, 96, 96))


MMACTION2: dict[str, tuple[str, tuple[int, ...], str]] = {
    # kind -> (architecture, blocks, preset to choose)
    "r2plus1d": ("mmaction2_r2plus1d_34", (2, 1, 2, 1), "mmaction2-8x8"),
    "slowonly": ("slowonly_r50", (2, 1, 2, 1), "mmaction2-4x16"),
    "ir": ("ir_csn_101", (3, 4, 23, 3), "mmaction2-32x2"),
    "ip": ("ip_csn_50", (1, 2, 1, 1), "mmaction2-vmz-32x2"),
    "2d": ("tsn_r50", (3, 4, 6, 3), "mmaction2-tsn"),
}


@pytest.mark.parametrize("kind", sorted(MMACTION2))
def test_mmaction2(kind: str, tmp_path: Path) -> None:
    name, layers, preset = MMACTION2[kind]
    reference = trained(mmaction2.Recognizer(kind, 4, layers, num_classes=K))
    path = save(tmp_path / "w.pth", reference, lambda state: {"meta": {"epoch": 1}, "state_dict": state})
    loaded = load(path, family=preset)
    assert loaded.model.architecture == name
    assert loaded.provenance["preset"] == preset
    assert (loaded.clip_spec.crop, loaded.clip_spec.fully_convolutional_crop) == (256, None)
    for side in (64, 96):  # it pools over the whole map, whatever its size
        assert_same_function(loaded, reference, random_clips(2, 3, 8, side, side))


def test_mmaction2_1x_omni(tmp_path: Path) -> None:
    reference = trained(mmaction2.OmniRecognizer(8, (1, 2, 1, 1), num_classes=K))
    path = save(tmp_path / "w.pth", reference, lambda state: {"meta": {}, "state_dict": state})
    loaded = load(path)
    assert loaded.model.architecture == "omni_slowonly_r50"
    assert loaded.model.feature_dim == 2 * K
    assert [name for name in loaded.provenance["ignored"] if "fc2d" not in name] == []
    assert "classifier of images" in " ".join(loaded.provenance["notes"])
    assert_same_function(loaded, reference, random_clips(2, 3, 8, 64, 64))


@pytest.mark.parametrize(
    ("kind", "name", "preset", "positions"),
    [
        ("slow", "pytorchvideo_slow_r50", "pytorchvideo-8x8", 1),
        ("csn", "pytorchvideo_csn_r101", "pytorchvideo-32x2", 1),
        ("r2plus1d", "pytorchvideo_r2plus1d_r50", "pytorchvideo-16x4", 4),
    ],
)
def test_pytorchvideo(kind: str, name: str, preset: str, positions: int, tmp_path: Path) -> None:
    """At 256 pixels the authors average logits of 2x2 positions, and in r2plus1d_r50 their softmaxes."""
    reference = trained(pytorchvideo.Net(kind, 4, (2, 1, 1, 1), num_classes=K))
    loaded = load(save(tmp_path / "w.pyth", reference, lambda state: {"model_state": state, "epoch": 1}))
    assert loaded.model.architecture == name
    assert loaded.provenance["preset"] == preset
    assert loaded.clip_spec.crop == 256
    clips = random_clips(1, 3, loaded.clip_spec.num_frames, 256, 256)
    assert loaded.model(clips)[0].shape == (1, K, positions)
    softmax = kind == "r2plus1d"
    assert_same_function(loaded, reference, clips, positions=lambda z: (z.softmax(1) if softmax else z).mean(2))


def test_i3d(tmp_path: Path) -> None:
    reference = trained(i3d.InceptionI3d(8, num_classes=K))
    loaded = load(save(tmp_path / "rgb_imagenet.pt", reference))
    assert loaded.model.architecture == "i3d"
    assert loaded.model.pool_size == (2, 7, 7)
    # Padding depends on the size of the input, and on which sides are odd.
    for shape in ((24, 224, 224), (15, 227, 198)):
        assert_same_function(loaded, reference, random_clips(1, 3, *shape), positions=lambda logits: logits)


def test_efficientnet_lite(tmp_path: Path) -> None:
    reference = trained(efficientnet.EfficientNet(8, num_classes=K))
    loaded = load(save(tmp_path / "lite0.pth", reference))
    assert loaded.model.architecture == "tsn_efficientnet_lite0"

    class OnFrame(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = reference

        def forward(self, clips: Tensor) -> Tensor:
            out: Tensor = self.net(clips[:, :, 0])
            return out

    for side in (224, 115):
        assert_same_function(loaded, OnFrame(), random_clips(1, 3, 1, side, side))


def test_what_a_comparison_would_show(tmp_path: Path) -> None:
    """The mistakes that load silently, each far above the agreement that the tests above ask for."""
    reference = trained(tv.vmz_r2plus1d(8, num_classes=K)).double()
    loaded = load(save(tmp_path / "w.pth", reference))
    clips = random_clips(1, 3, 32, 112, 112).double()
    model = loaded.model.double()
    with torch.no_grad():
        right = reference(clips)
        wrong_epsilon = copy.deepcopy(model)
        for part in wrong_epsilon.modules():
            if isinstance(part, NORMS):
                part.eps = 1e-5
        assert relative_error(wrong_epsilon(clips)[0].mean(2), right) > 1e-2
        with_pool = tv.vmz_r2plus1d(8, num_classes=K).double().eval()
        with_pool.load_state_dict(reference.state_dict())
        assert isinstance(with_pool.stem, nn.Sequential)
        with_pool.stem.append(nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)))
        assert relative_error(with_pool(clips), right) > 1e-2
    csn = trained(tv.vmz_csn(8, "ip", num_classes=K)).double()
    small = random_clips(1, 3, 16, 64, 64).double()
    with torch.no_grad():
        right = csn(small)
        for name in ("layer1", "layer2", "layer3", "layer4"):
            middle = csn.get_submodule(f"{name}.0.conv2.0")
            assert isinstance(middle, nn.Sequential)
            middle.insert(2, nn.ReLU())
        assert relative_error(csn(small), right) > 1e-2
