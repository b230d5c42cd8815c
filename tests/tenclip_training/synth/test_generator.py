"""The folder: deterministic, resumable, and nobody else's."""

from __future__ import annotations

import csv
import dataclasses
import fcntl
import json
import logging
import multiprocessing
import os
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest
from tenclip_training.synth import NoisyTags, SynthConfig, WebNoise, generate, generator, plan_videos, render
from tenclip_training.synth.manifest import COLUMNS, manifest_row

SMALL = SynthConfig(num_classes=3, videos_per_class=12, width=32, height=24, seconds=(0.2, 0.4))
TINY = dataclasses.replace(SMALL, num_classes=2, videos_per_class=2)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rows_of(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_files_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    generate(SMALL, tmp_path / "one", workers=1)
    generate(SMALL, tmp_path / "two", workers=2)
    one, two = files_of(tmp_path / "one"), files_of(tmp_path / "two")
    assert one == two
    assert len(one) == 36 + 2


def test_manifest_says_what_the_files_hold(tmp_path: Path) -> None:
    manifest = generate(dataclasses.replace(SMALL, videos_per_class=3, untrimmed=(0.4, 0.6)), tmp_path, workers=1)
    rows = rows_of(manifest)
    assert tuple(rows[0]) == COLUMNS
    for row in rows:
        with av.open(str(tmp_path / row["path"])) as container:
            assert sum(1 for _ in container.decode(video=0)) == int(row["frames"])
            assert container.duration is not None
            assert container.duration / 1e6 == pytest.approx(float(row["duration"]), abs=2e-3)
        assert 0 <= float(row["start"]) < float(row["end"]) <= float(row["duration"]) + 1e-3
        assert Path(row["path"]).parts[:2] == ("videos", row["label"])


def test_the_manifest_reads_as_a_dataset_and_so_does_the_folder(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, noisy_tags=NoisyTags(), videos_per_class=4)
    manifest = generate(config, tmp_path, workers=1)
    dataset = read_manifest(manifest)
    assert dataset.labels == tuple(sorted(config.class_names))
    assert set(dataset.splits) == {"train", "test"}
    assert all(s.start_seconds is None and s.end_seconds is None for s in dataset.samples)
    assert set(read_manifest(manifest, label_column="speed").labels) <= {"slow", "fast"}
    tags = read_manifest(manifest, label_column="tags")
    assert {s.labels for s in tags.samples} == {s.tags for s in plan_videos(config)}
    assert read_manifest(tmp_path / "videos").labels == dataset.labels


def test_synth_json_says_how_and_with_which_truth(tmp_path: Path) -> None:
    generate(dataclasses.replace(TINY, noisy_tags=NoisyTags(missing=0.5)), tmp_path, workers=1)
    described = json.loads((tmp_path / "synth.json").read_text())
    assert described["config"]["noisy_tags"]["missing"] == 0.5
    assert described["config"]["classes"] == ["move_left", "move_right"]
    assert described["mirrored"] == {"move_left": "move_right", "move_right": "move_left"}
    assert described["tag_classes"]["#leftward"] == "move_left"


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    manifest = generate(SMALL, tmp_path, workers=1)
    whole = files_of(tmp_path)
    kept, lost, empty, *_ = (tmp_path / row["path"] for row in rows_of(manifest))
    lost.unlink()
    empty.write_bytes(b"")
    manifest.unlink()
    left_over = kept.with_name(".half-written.part")
    left_over.write_bytes(b"x")
    written = kept.stat().st_mtime_ns
    calls: list[tuple[int, int]] = []
    generate(SMALL, tmp_path, workers=1, progress=lambda done, total: calls.append((done, total)))
    assert files_of(tmp_path) == whole
    assert kept.stat().st_mtime_ns == written
    assert calls == [(34, 36), (35, 36), (36, 36)]


def test_progress_reaches_the_end_with_workers(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    generate(SMALL, tmp_path, workers=2, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (36, 36)
    assert calls == sorted(calls)


def test_a_worker_that_dies_is_no_riddle(tmp_path: Path) -> None:
    def kill(done: int, total: int) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    config = dataclasses.replace(SMALL, videos_per_class=40)
    with pytest.raises(DatasetError, match=r"a worker process died, .* the same command goes on from here"):
        generate(config, tmp_path, workers=2, progress=kill)
    assert not (tmp_path / "manifest.csv").exists()
    assert all(p.stat().st_size > 0 for p in tmp_path.rglob("*.mp4"))


@pytest.mark.parametrize(
    ("change", "said"), [({"seed": 7}, "seed 0 there, 7 asked"), ({"width": 34}, "width 32 there")]
)
def test_another_configuration_in_the_same_folder_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    generate(TINY, tmp_path, workers=1)
    before = files_of(tmp_path)
    with pytest.raises(DatasetError, match=said) as caught:
        generate(dataclasses.replace(TINY, **change), tmp_path, workers=1)
    assert str(tmp_path) in str(caught.value)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"config": 3}'])
def test_a_damaged_synth_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "synth.json").write_text(content)
    with pytest.raises(DatasetError, match=r"synth\.json"):
        generate(TINY, tmp_path, workers=1)


def test_somebody_elses_videos_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    with pytest.raises(DatasetError, match="already holds videos"):
        generate(TINY, tmp_path, workers=1)
    assert [p.name for p in tmp_path.iterdir()] == ["videos"]


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(DatasetError, match="is a file"):
        generate(TINY, tmp_path / "out", workers=1)
    with pytest.raises(DatasetError, match="cannot write"):
        generate(TINY, tmp_path / "out" / "below", workers=1)


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(DatasetError, match="another run is writing"):
            generate(TINY, tmp_path, workers=1)
    finally:
        os.close(handle)
    generate(TINY, tmp_path, workers=1)


def test_without_libx264_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(av, "codecs_available", set(av.codecs_available) - {"libx264"})
    with caplog.at_level(logging.WARNING):
        manifest = generate(TINY, tmp_path, workers=1)
    assert "no libx264" in caplog.text
    assert json.loads((tmp_path / "synth.json").read_text())["encoder"] == "mpeg4"
    with av.open(str(tmp_path / rows_of(manifest)[0]["path"])) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"


def test_rows_of_trimmed_videos_leave_the_interval_empty() -> None:
    row = manifest_row(plan_videos(TINY)[0])
    assert (row["start"], row["end"], row["idle"]) == ("", "", "none")
    assert (row["family"], row["axis"]) == ("translation", "horizontal")


STILLS = dataclasses.replace(SMALL, kind="images", overlap=0.5, width=48, height=36)


def test_stills_are_frames_of_videos_nobody_made(tmp_path: Path) -> None:
    manifest = generate(dataclasses.replace(STILLS, image_format="png"), tmp_path, workers=1)
    rows = rows_of(manifest)
    specs = plan_videos(dataclasses.replace(STILLS, image_format="png"))
    assert len(rows) == 36
    for row, spec in zip(rows, specs, strict=True):
        with Image.open(tmp_path / row["path"]) as image:
            assert np.array_equal(np.asarray(image.convert("RGB")), next(render(spec)))
        assert (row["kind"], row["frames"], row["duration"], row["frame_rate"]) == ("image", "1", "", "")
        assert Path(row["path"]).parts[:2] == ("images", row["label"])


def test_jpeg_stills_load_and_are_nearly_the_frames(tmp_path: Path) -> None:
    manifest = generate(STILLS, tmp_path, workers=1)
    for row, spec in zip(rows_of(manifest), plan_videos(STILLS), strict=True):
        with Image.open(tmp_path / row["path"]) as image:
            assert image.format == "JPEG"
            brightness = np.asarray(image.convert("L"), np.float64)  # its colours are at half the resolution
        assert np.abs(brightness - next(render(spec)) @ [0.299, 0.587, 0.114]).mean() < 4


def test_stills_do_not_depend_on_workers_and_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "_WORTH_A_WORKER", {"images": 10, "videos": 10})
    generate(STILLS, tmp_path / "two", workers=2)
    manifest = generate(STILLS, tmp_path / "one", workers=1)
    whole = files_of(tmp_path / "one")
    assert whole == files_of(tmp_path / "two")
    (tmp_path / "one" / rows_of(manifest)[3]["path"]).unlink()
    manifest.unlink()
    (tmp_path / "one/images/move_left/.half.part").write_bytes(b"x")
    generate(STILLS, tmp_path / "one", workers=1)
    assert files_of(tmp_path / "one") == whole


def test_scenes_and_intervals_are_in_the_manifest(tmp_path: Path) -> None:
    config = dataclasses.replace(
        SMALL, videos_per_class=2, seconds=(2.0, 2.5), untrimmed=(0.2, 0.2), scenes=(3, 3), action_scenes=(2, 2)
    )
    for row in rows_of(generate(config, tmp_path, workers=1)):
        intervals = [tuple(map(float, text.split("-"))) for text in row["intervals"].split()]
        assert sum(b - a for a, b in intervals) / float(row["duration"]) == pytest.approx(0.2, abs=2e-3)
        assert (float(row["start"]), float(row["end"])) == intervals[0]
        assert row["scene_verbs"].split().count(row["verb"]) == 2
        assert len(row["scene_starts"].split()) == int(row["scenes"]) == 3
        with av.open(str(tmp_path / row["path"])) as container:
            assert sum(1 for _ in container.decode(video=0)) == int(row["frames"])


def test_noisy_sources_keep_the_truth_in_the_manifest(tmp_path: Path) -> None:
    web = WebNoise(wrong=0.25, off_topic=0.25)
    config = dataclasses.replace(SMALL, total=16, splits=(("train", 1.0),), web=web, source="clips", site="archive")
    manifest = generate(config, tmp_path, workers=1)
    rows = rows_of(manifest)
    assert sum(row["is_wrong"] == "1" for row in rows) == sum(row["off_topic"] == "1" for row in rows) == 4
    assert sum(row["label"] == row["true_label"] for row in rows) == 8
    assert all(row["site"] == "archive" and row["source"] == "clips" and row["url"] for row in rows)
    described = json.loads((tmp_path / "synth.json").read_text())
    assert described["site"]["crf"] == 26
    truth = read_manifest(manifest, label_column="true_label")
    assert set(truth.labels) <= {*config.class_names, "off_topic"}


def test_a_folder_made_before_there_were_nouns_goes_on(tmp_path: Path) -> None:
    """Its synth.json names only the settings of then; the videos are still the same."""
    generate(TINY, tmp_path, workers=1)
    path = tmp_path / "synth.json"
    described = json.loads(path.read_text())
    for name in ("nouns", "overlap", "site", "web", "kind", "total", "label", "scenes", "backgrounds"):
        del described["config"][name]
    path.write_text(json.dumps(described))
    generate(TINY, tmp_path, workers=1)
    with pytest.raises(DatasetError, match=r"overlap 0.0 there, 0.5 asked"):
        generate(dataclasses.replace(TINY, overlap=0.5), tmp_path, workers=1)


def test_images_do_not_go_into_a_folder_of_videos(tmp_path: Path) -> None:
    generate(TINY, tmp_path, workers=1)
    with pytest.raises(DatasetError, match="kind videos there, images asked"):
        generate(dataclasses.replace(TINY, kind="images"), tmp_path, workers=1)


def test_workers_below_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        generate(TINY, tmp_path / "out", workers=0)
    assert not (tmp_path / "out").exists()
