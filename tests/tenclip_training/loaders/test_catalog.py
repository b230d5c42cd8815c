"""The table of what can be loaded."""

from __future__ import annotations

import json

import pytest

from tenclip_training.loaders import PRESETS
from tenclip_training.loaders import catalog as catalog_module
from tenclip_training.loaders.catalog import ARCHITECTURE_PRESETS, catalog
from tenclip_training.models import ARCHITECTURES
from tenclip_training.models.cost import cost


def test_every_preset_belongs_to_an_architecture() -> None:
    assert set(ARCHITECTURE_PRESETS) <= set(ARCHITECTURES)
    # "vmz" alone is also what R(2+1)D of other depths than 34 take.
    assert {p.name for found in ARCHITECTURE_PRESETS.values() for p in found} == set(PRESETS)


def test_entries_have_the_cost_at_their_own_input() -> None:
    entries = catalog(["r2plus1d_34", "r2plus1d_10", "slowonly_r50"])
    by_preset = {(e.architecture, e.preset): e for e in entries}
    eight, thirty_two = by_preset["r2plus1d_34", "vmz-8f"], by_preset["r2plus1d_34", "vmz-32f"]
    assert eight.parameters == thirty_two.parameters == 63_697_175
    assert eight.gmacs == pytest.approx(thirty_two.gmacs / 4, rel=1e-3)
    assert thirty_two.published is not None
    assert "80.0" in thirty_two.published
    assert by_preset["r2plus1d_10", None].clip_spec is None
    assert by_preset["slowonly_r50", "mmaction2-4x16"].family == "mmaction2"


@pytest.mark.parametrize(
    ("architecture", "preset", "gmacs", "parameters"),
    [
        # SlowFast's paper, table 5: 36.1 and 65.7 at 256 pixels. pytorchvideo's model zoo: 34.57, 34.48 and 53.77
        # million parameters.
        ("mmaction2_slowfast_r50", "mmaction2-slowfast-8x8", 65.7, 34_565_560),
        ("mmaction2_slowfast_r50", "mmaction2-slowfast-4x16", 36.1, 34_479_288),
        ("pytorchvideo_slowfast_r50", "pytorchvideo-slowfast-8x8", 65.7, 34_566_488),
        ("pytorchvideo_slowfast_r50", "pytorchvideo-slowfast-4x16", 36.1, 34_480_216),
        ("pytorchvideo_slowfast_r101", "pytorchvideo-slowfast-16x8", 213, 53_774_808),
    ],
)
def test_entries_have_the_options_of_their_preset(
    architecture: str, preset: str, gmacs: float, parameters: int
) -> None:
    (entry,) = (e for e in catalog([architecture]) if e.preset == preset)
    assert entry.parameters == parameters
    assert entry.gmacs == pytest.approx(gmacs, rel=2e-3)


def test_a_head_made_for_less_than_the_crop_is_counted_at_each_position() -> None:
    (entry,) = catalog(["pytorchvideo_x3d_s"])
    _, once = cost("pytorchvideo_x3d_s", num_classes=400, num_frames=13, crop=182)
    # Made for 160 pixels, 2 x 2 positions at 182; each has 432 x 2048 + 2048 x 400 multiply-adds.
    assert entry.gmacs == round((once + 3 * (432 * 2048 + 2048 * 400)) / 1e9, 3) == 2.727


def test_rows_are_plain_values(monkeypatch: pytest.MonkeyPatch) -> None:
    few = catalog(["i3d", "r2plus1d_10", "torchvision_mc3_18"])
    monkeypatch.setattr(catalog_module, "catalog", lambda: few)
    i3d, ours, mc3 = json.loads(json.dumps(catalog_module.catalog_rows()))
    assert (i3d["clip"], i3d["clip_spec"]["crop"]) == ("64x224x224", 224)
    assert (ours["clip"], ours["preset"], ours["clip_spec"]) == ("32x112x112", None, None)
    assert mc3["clip"] == "16x112x112 at 15 fps"
