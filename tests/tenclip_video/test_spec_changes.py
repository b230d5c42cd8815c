from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from tenclip_video.spec import ClipSpec, Resize
from tenclip_video.spec_changes import change_spec, check_crop, shortest_side


@pytest.mark.parametrize(
    ("changes", "crop", "larger"),
    [
        ({"num_frames": 8}, 112, 128),
        ({"crop": 96}, 96, 128),
        ({"crop": 128}, 128, None),
        ({"resize": {"height": 96, "width": 128}}, 96, None),
        ({"resize": {"height": 96, "width": 128}, "crop": 80}, 80, 96),
        ({"resize": {"mode": "short_edge", "short_edge": 256}, "crop": 224}, 224, 256),
        ({"resize": Resize(mode="none")}, 112, None),
        ({"resize": {"mode": "none"}, "fully_convolutional_crop": 160}, 112, 160),
        ({"crop": 96, "fully_convolutional_crop": None}, 96, None),
    ],
)
def test_crops_follow_where_they_are_not_named(changes: dict[str, Any], crop: int, larger: int | None) -> None:
    changed = change_spec(ClipSpec(), changes)
    assert (changed.crop, changed.fully_convolutional_crop) == (crop, larger)
    check_crop(changed)
    without = change_spec(replace(ClipSpec(), fully_convolutional_crop=None), changes)
    assert without.fully_convolutional_crop == changes.get("fully_convolutional_crop")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"crop": 129}, "a crop of 129 pixels does not fit into frames resized to 128"),
        ({"fully_convolutional_crop": 300}, "a crop of 300 pixels does not fit into frames resized to 128"),
        ({"fully_convolutional_crop": 100}, "fully_convolutional_crop 100 is below the crop 112"),
        ({"frames": 8}, "ClipSpec has no field frames"),
        ({"resize": {"edge": 8}}, "ClipSpec.resize has no field edge"),
        ({"resize": {"height": "8"}}, "a value of another type than ClipSpec takes"),
        ({"num_frames": "8"}, "a value of another type than ClipSpec takes"),
        ({"resize": {"mode": "crop"}}, "resize mode 'crop' is not one of"),
    ],
)
def test_what_cannot_be(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        change_spec(ClipSpec(), changes)


def test_the_shortest_side() -> None:
    assert shortest_side(Resize(mode="squash", height=128, width=96)) == 96
    assert shortest_side(Resize(mode="short_edge", short_edge=256)) == 256
    assert shortest_side(Resize(mode="none")) is None
