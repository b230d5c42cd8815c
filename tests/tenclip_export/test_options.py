from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from tenclip_api.errors import BundleError, InvalidRequest
from tenclip_export.checkpoint_options import CheckpointOptions, InputOptions
from tenclip_export.options import BundleOptions, VariantOptions
from tenclip_training.data.clip_overrides import ClipOverrides
from tenclip_training.loaders.overrides import override_spec
from tenclip_video.spec import ClipSpec, ColorOrder, InterlacedMode, Resize, ResizeKernel, ValueRange


def test_nothing_given_changes_nothing() -> None:
    assert InputOptions().changes() == {}


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        (
            InputOptions(frames=16, stride=2, fps=15.0, crop=112),
            {"num_frames": 16, "frame_stride": 2, "target_fps": 15.0, "crop": 112},
        ),
        (InputOptions(resize="128x171"), {"resize": {"mode": "squash", "height": 128, "width": 171}}),
        (InputOptions(resize="256"), {"resize": {"mode": "short_edge", "short_edge": 256}}),
        (InputOptions(resize="none"), {"resize": {"mode": "none"}}),
        (
            InputOptions(resize_kernel="pil_bilinear", interlaced="progressive"),
            {"resize": {"kernel": "pil_bilinear", "interlaced": "progressive"}},
        ),
        (
            InputOptions(mean="0.45,0.45, 0.45", std="1,2,3", value_range="0-255", color_order="bgr"),
            {"mean": (0.45, 0.45, 0.45), "std": (1.0, 2.0, 3.0), "value_range": "0-255", "color_order": "bgr"},
        ),
        (
            InputOptions(fps=0.0, fully_convolutional_crop=0),
            {"target_fps": None, "fully_convolutional_crop": None},
        ),
    ],
)
def test_changes_of_the_input(options: InputOptions, changes: dict[str, Any]) -> None:
    assert options.changes() == changes
    # Whatever it says is something that a ClipSpec takes.
    values = ClipSpec(fully_convolutional_crop=None).to_dict()
    ClipSpec.from_dict({**values, **changes, "resize": {**values["resize"], **changes.get("resize", {})}})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (InputOptions(resize="big"), r"--resize 'big': write HEIGHTxWIDTH, e\.g\. 128x171"),
        (InputOptions(resize="1x2x3"), "--resize '1x2x3'"),
        (InputOptions(resize="0"), "--resize '0'"),
        (InputOptions(resize="-5"), "--resize '-5'"),
        (InputOptions(resize=""), "--resize ''"),
        (InputOptions(mean="0.4"), r"--mean '0\.4': write 3 numbers"),
        (InputOptions(std="a,b,c"), "--std 'a,b,c'"),
        (InputOptions(fps=-1.0), "target_fps must be at least 0"),
    ],
)
def test_text_that_is_no_input(options: InputOptions, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        options.changes()


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (InputOptions(resize="64x86"), {"resize": (64, 86)}),
        (InputOptions(resize="64", frames=8), {"resize": (64,), "num_frames": 8}),
        (InputOptions(resize="256x342", crop=224), {"resize": (256, 342), "crop": 224}),
        (InputOptions(crop=96, fps=0.0), {"crop": 96, "target_fps": 0.0}),
        (InputOptions(resize="none"), {"resize": ()}),
        (InputOptions(interlaced="progressive"), {"interlaced": "progressive"}),
    ],
)
def test_export_and_training_change_a_clip_alike(options: InputOptions, asked: dict[str, Any]) -> None:
    for spec in (ClipSpec(), ClipSpec(target_fps=15.0, fully_convolutional_crop=None)):
        exported, _ = override_spec(spec, options.changes())
        assert exported == ClipOverrides(**asked).apply_to(spec)


def test_a_larger_crop_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="a crop of 300 pixels does not fit into frames resized to 128"):
        override_spec(ClipSpec(), InputOptions(fully_convolutional_crop=300).changes())


def test_choices_are_those_of_the_spec() -> None:
    hints = get_type_hints(InputOptions)
    for name, literal in (
        ("resize_kernel", ResizeKernel),
        ("interlaced", InterlacedMode),
        ("value_range", ValueRange),
        ("color_order", ColorOrder),
    ):
        chosen = next(get_args(part) for part in get_args(hints[name]) if part is not type(None))
        assert chosen == get_args(literal)
    assert Resize(mode="short_edge", short_edge=256).kernel in get_args(ResizeKernel)


def test_model_options_are_json_or_text() -> None:
    given = ["stem_pool=true", "alpha=8", "bn_eps=1e-5", "name=a=b", " spaced =x"]
    assert CheckpointOptions(model_option=given).model_options == {
        "stem_pool": True, "alpha": 8, "bn_eps": 1e-5, "name": "a=b", "spaced": "x",
    }  # fmt: skip
    assert CheckpointOptions().model_options == {}
    for bad in ("stem_pool", "=true"):
        with pytest.raises(InvalidRequest, match=r"write NAME=VALUE, e\.g\. stem_pool=true"):
            _ = CheckpointOptions(model_option=[bad]).model_options


def test_names_of_variants_come_with_commas() -> None:
    options = VariantOptions(variant="fp16, int8,", format="onnx,torch")
    assert (options.precisions, options.formats) == (["fp16", "int8"], ["onnx", "torch"])


def test_class_names(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("wave\njump\n")
    assert BundleOptions().class_names(7) is None
    assert BundleOptions(labels=path).class_names(2) == ("wave", "jump")
    with pytest.raises(BundleError, match=r"labels\.txt: 2 labels for a model of 3 classes"):
        BundleOptions(labels=path).class_names(3)
