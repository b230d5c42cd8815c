"""The small world of web data that other tests train on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2

from tenclip_data.manifest import read_manifest
from tests.tenclip_training.worlds import WebWorld, make_web_world, rows_of


def test_the_parts_have_the_same_classes(web_world: WebWorld) -> None:
    for manifest in (web_world.target, web_world.web_images, web_world.web_clips, web_world.untrimmed):
        assert {row["label"] for row in rows_of(manifest)} == set(web_world.classes)
    for manifest in (web_world.target, web_world.web_clips, web_world.untrimmed):
        assert set(read_manifest(manifest).labels) == set(web_world.classes)


def test_the_target_is_right_and_has_every_split(web_world: WebWorld) -> None:
    rows = rows_of(web_world.target)
    assert Counter(row["split"] for row in rows) == {"train": 12, "val": 6, "test": 6}
    assert all(row["label"] == row["true_label"] for row in rows)


def test_a_third_of_the_web_is_wrong_and_a_sixth_off_topic(web_world: WebWorld) -> None:
    for manifest, count in ((web_world.web_images, 48), (web_world.web_clips, 24)):
        rows = rows_of(manifest)
        assert len(rows) == count
        assert sum(row["is_wrong"] == "1" for row in rows) * 3 == count
        assert sum(row["off_topic"] == "1" for row in rows) * 6 == count
        assert all(row["url"] and row["tags"] for row in rows)


def test_images_are_pictures_of_the_size_of_the_videos(web_world: WebWorld) -> None:
    for row in rows_of(web_world.web_images):
        image = cv2.imread(str(web_world.web_images.parent / row["path"]))
        assert image is not None
        assert image.shape == (36, 48, 3)


def test_untrimmed_videos_show_the_action_in_one_of_three_scenes(web_world: WebWorld) -> None:
    for row in rows_of(web_world.untrimmed):
        assert int(row["scenes"]) == 3
        assert len(row["intervals"].split()) == 1
        assert 0.14 < (float(row["end"]) - float(row["start"])) / float(row["duration"]) < 0.21


def test_another_seed_is_another_world(web_world: WebWorld, tmp_path: Path) -> None:
    other = make_web_world(tmp_path, videos_per_class=4, web_images=3, web_clips=3, untrimmed=3, seed=9)
    assert {row["url"] for row in rows_of(other.web_images)}.isdisjoint(
        row["url"] for row in rows_of(web_world.web_images)
    )
