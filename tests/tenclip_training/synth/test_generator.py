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
import pytest

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest
from tenclip_training.synth import NoisyTags, SynthConfig, generate, plan_videos
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


def test_workers_below_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        generate(TINY, tmp_path / "out", workers=0)
    assert not (tmp_path / "out").exists()
