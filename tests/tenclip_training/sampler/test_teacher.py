"""Scores of windows by a network that runs here, and by the same network on a server."""

from __future__ import annotations

import functools
import json
import os
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenclip_api.errors import DatasetError, InvalidRequest, ModelNotFound, ServerUnavailable
from tenclip_client.cli.options import ConnectionOptions
from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.omni.score_store import Decoding
from tenclip_training.sampler.identity import identity_of
from tenclip_training.sampler.local_teacher import local_teacher
from tenclip_training.sampler.served_teacher import Settings, served_teacher
from tenclip_training.sampler.teacher import TeacherStore, WindowTeacher
from tenclip_training.sampler.windows import WindowGrid, read_window_clips
from tenclip_video.bundle import read_bundle
from tenclip_video.protocols import softmax
from tests.tenclip_serving.helpers import LABELS, ServerProcess, make_bundle, reference, running_server

from .conftest import ColorWorld

GRID = WindowGrid(step=2, max_windows=64)


def unnamed_bundle(models: Path) -> Path:
    """A bundle that knows its classes by their numbers."""
    path = make_bundle(models, "unnamed", labels=tuple("0123"))
    values = json.loads((path / "bundle.json").read_text())
    (path / "bundle.json").write_text(json.dumps({**values, "label_source": "index"}))
    return path


@pytest.fixture
def videos(world: ColorWorld, tmp_path: Path) -> list[SetVideo]:
    """Two good ones, between them one that is none."""
    (tmp_path / "broken.mp4").write_bytes(b"not a video\n" * 100)
    for name in ("000.mp4", "003.mp4"):
        shutil.copy(world.manifest.parent / name, tmp_path / name)
    return [SetVideo(name=n, path=tmp_path / n) for n in ("000.mp4", "broken.mp4", "003.mp4")]


def test_scores_are_those_of_the_network(teacher: WindowTeacher, videos: list[SetVideo], tmp_path: Path) -> None:
    store = TeacherStore(tmp_path / "cache", teacher, GRID)
    seen: list[tuple[int, int]] = []
    assert store.update(videos, Decoding(), lambda done, total: seen.append((done, total))) == 3
    assert seen[-1] == (3, 3)
    found, failures = store.read(videos)
    assert [(f.video, f.reason) for f in failures] == [("broken.mp4", "NOT_A_VIDEO")]
    clips = read_window_clips(videos[0], spec=teacher.spec, grid=GRID)
    expected = softmax(reference(clips.clips).logits, axis=1).mean(axis=2)
    np.testing.assert_allclose(found["000.mp4"].scores, expected, atol=1e-4)
    assert found["000.mp4"].scores.shape == (19, len(LABELS))
    np.testing.assert_array_equal(found["000.mp4"].seconds, clips.seconds)
    assert found["000.mp4"].seconds[1].tolist() == [0.25, 0.75]
    # The first second is red, then all is grey.
    of_red = found["000.mp4"].scores[:, 0]
    assert of_red[:3].min() > of_red[5:].max() + 0.2


def test_a_video_is_scored_once_and_again_when_it_changes(
    teacher: WindowTeacher, videos: list[SetVideo], tmp_path: Path
) -> None:
    store = TeacherStore(tmp_path / "cache", teacher, GRID)
    store.update(videos[:1], Decoding())
    assert store.update(videos, Decoding()) == 2
    again = TeacherStore(tmp_path / "cache", teacher, GRID)
    assert again.update(videos, Decoding()) == 0
    before = again.read(videos)[0]["000.mp4"].scores
    os.replace(videos[2].path, videos[0].path)
    os.utime(videos[0].path, ns=(1, 1))
    assert again.update(videos[:1], Decoding()) == 1
    assert (again.read(videos[:1])[0]["000.mp4"].scores != before).any()
    other = TeacherStore(tmp_path / "cache", teacher, replace(GRID, step=4))
    assert other.folder != store.folder, "other windows are other scores"


def test_scores_of_other_classes_are_refused(teacher: WindowTeacher, videos: list[SetVideo], tmp_path: Path) -> None:
    TeacherStore(tmp_path, teacher, GRID).update(videos[:1], Decoding())
    fewer = TeacherStore(tmp_path, teacher, GRID)
    fewer._teacher = replace(teacher, labels=teacher.labels[:3])
    with pytest.raises(DatasetError, match=r"scores of 000\.mp4 are of 4 classes"):
        fewer.read(videos[:1])


@pytest.fixture(scope="module")
def server(world: ColorWorld, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    unnamed_bundle(world.bundle.parent.parent)
    with running_server(world.bundle.parent.parent) as running:
        yield running


def settings_of(server: ServerProcess, **values: Any) -> Settings:
    return functools.partial(dict, target=server.address, **values)


def test_a_served_model_says_what_it_says_here(
    server: ServerProcess, teacher: WindowTeacher, world: ColorWorld, videos: list[SetVideo], tmp_path: Path
) -> None:
    served = served_teacher(settings_of(server), "colors")
    assert served.identity == teacher.identity == identity_of(read_bundle(world.bundle).info)
    assert (served.spec, served.labels, served.activation) == (teacher.spec, teacher.labels, "softmax")
    few = replace(GRID, max_windows=9)
    here, there = TeacherStore(tmp_path / "here", teacher, few), TeacherStore(tmp_path / "there", served, few)
    here.update(videos, Decoding())
    there.update(videos, Decoding())
    (expected, failed), (found, failed_there) = here.read(videos), there.read(videos)
    assert [(f.video, f.reason) for f in failed_there] == [(f.video, f.reason) for f in failed]
    for name in ("000.mp4", "003.mp4"):
        assert len(found[name].scores) <= 9
        np.testing.assert_allclose(found[name].scores, expected[name].scores, atol=1e-4)
        np.testing.assert_allclose(found[name].seconds, expected[name].seconds, atol=1e-6)


def test_options_of_a_connection_travel_to_the_processes_that_ask(server: ServerProcess, tmp_path: Path) -> None:
    """A token file is read there again: what reads it cannot be pickled."""
    (tmp_path / "token").write_text("secret-secret-secret-secret\n")
    connection = ConnectionOptions(server=server.address, token_file=tmp_path / "token")
    served = served_teacher(functools.partial(connection.client_settings, 30.0), "colors")
    read = pickle.loads(pickle.dumps(served.reader(GRID)))
    assert read.keywords["settings"]()["token"]() == "secret-secret-secret-secret"
    assert served.name == f"colors:1 on {server.address}"


def test_a_served_model_that_cannot_teach(server: ServerProcess, tmp_path: Path) -> None:
    settings = settings_of(server)
    with pytest.raises(ModelNotFound):
        served_teacher(settings, "nobody")
    with pytest.raises(InvalidRequest, match=r"does not name its classes: .* --labels"):
        served_teacher(settings, "unnamed")
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\n")
    assert served_teacher(settings, "unnamed", labels=tmp_path / "names.txt").labels == ("a", "b", "c", "d")
    (tmp_path / "names.txt").write_text("a\nb\n")
    with pytest.raises(InvalidRequest, match="has 2 classes, and model unnamed:1 has 4"):
        served_teacher(settings, "unnamed", labels=tmp_path / "names.txt")


def test_a_server_that_goes_away_ends_the_run_and_blames_no_video(
    teacher: WindowTeacher, world: ColorWorld, videos: list[SetVideo], tmp_path: Path
) -> None:
    with running_server(world.bundle.parent.parent) as running:
        served = served_teacher(settings_of(running, timeout=30.0, retries=0), "colors")
        store = TeacherStore(tmp_path / "cache", served, GRID)
        store.update(videos[:1], Decoding())
    with pytest.raises(ServerUnavailable):
        store.update(videos, Decoding())
    assert store.read(videos[:1])[0].keys() == {"000.mp4"}
    with running_server(world.bundle.parent.parent) as running:
        again = served_teacher(settings_of(running), "colors")
        store = TeacherStore(tmp_path / "cache", again, GRID)
        # The one that cannot be opened here was never sent.
        assert store.update(videos, Decoding()) == 1
        assert [f.video for f in store.read(videos)[1]] == ["broken.mp4"]


def test_a_bundle_without_names_of_classes(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="does not name its classes"):
        local_teacher(str(unnamed_bundle(tmp_path)))
