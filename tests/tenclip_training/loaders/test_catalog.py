"""The table of what can be loaded."""

from __future__ import annotations

import json

import pytest

from tenclip_training.loaders import PRESETS
from tenclip_training.loaders import catalog as catalog_module
from tenclip_training.loaders.catalog import ARCHITECTURE_PRESETS, catalog
from tenclip_training.models import ARCHITECTURES


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


def test_rows_are_plain_values(monkeypatch: pytest.MonkeyPatch) -> None:
    few = catalog(["i3d", "r2plus1d_10", "torchvision_mc3_18"])
    monkeypatch.setattr(catalog_module, "catalog", lambda: few)
    i3d, ours, mc3 = json.loads(json.dumps(catalog_module.catalog_rows()))
    assert (i3d["clip"], i3d["clip_spec"]["crop"]) == ("64x224x224", 224)
    assert (ours["clip"], ours["preset"], ours["clip_spec"]) == ("32x112x112", None, None)
    assert mc3["clip"] == "16x112x112 at 15 fps"
