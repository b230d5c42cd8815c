"""From videos and a heavy network to a sampler in a folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import av
import numpy as np
import pytest

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest
from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.sampler.fit import FitConfig
from tenclip_training.sampler.results import SamplerResult
from tenclip_training.sampler.run import Report, SamplerConfig, train_sampler
from tenclip_training.sampler.teacher import WindowTeacher
from tenclip_training.sampler.videos import SamplerVideos, labelled_videos, unlabelled_videos
from tenclip_video.clips import read_clips
from tenclip_video.protocols import PROTOCOLS
from tenclip_video.salience import LearnedScorer, load_sampler
from tests.tenclip_training.omni.colors import COLORS, GREY, painted, write_video

from .conftest import ColorWorld

CONFIG = SamplerConfig(
    kind="rgb",
    fit=FitConfig(epochs=8, batch_size=4),
    max_clips=3,
    error_bounds=(0.25, 0.5, 0.01),
    confidence=0.9,
    window_step=4,
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def videos(world: ColorWorld, teacher: WindowTeacher) -> SamplerVideos:
    return labelled_videos(read_manifest(world.manifest), teacher.labels)


@pytest.fixture(scope="module")
def trained(
    videos: SamplerVideos, teacher: WindowTeacher, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Report:
    return train_sampler(videos, teacher, tmp_path_factory.mktemp("sampler"), CONFIG, cache=cache)


def test_the_sampler_finds_the_colour(trained: Report) -> None:
    metrics = trained.spec.metrics
    assert max(e.agreement or 0 for e in trained.history) > 0.8
    assert metrics["rank_correlation"] > 0.2, "most windows are grey, and in no order"
    assert metrics["action_recall_salient_3"] > metrics["action_recall_uniform_3"]
    assert metrics["top1_salient_3"] >= metrics["top1_uniform_3"]
    assert {f"top1_motion_{n}" for n in (1, 3)} | {f"action_recall_motion_{n}" for n in (1, 3)} <= metrics.keys()
    assert metrics["windows_per_video"] == 10
    assert trained.videos["train"] == 12
    assert trained.videos["select"] + trained.videos["held_out"] == 24
    assert metrics["videos"] == metrics["annotated_videos"] == trained.videos["held_out"]


def test_a_server_takes_the_clips_with_the_colour(trained: Report, world: ColorWorld, teacher: WindowTeacher) -> None:
    """Video 000 is red in its first second."""
    scorer = LearnedScorer(picture=load_sampler(trained.path))
    assert scorer.picture.spec == trained.spec
    selection = dataclasses.replace(PROTOCOLS["salient-clips"].selection, num_clips=2)
    protocol = dataclasses.replace(PROTOCOLS["salient-clips"], selection=selection)
    read = read_clips(world.manifest.parent / "000.mp4", teacher.spec, protocol, scorer=scorer)
    assert read.timeline is not None
    assert len(read.timeline.scores) == 10, "windows are as far apart as in training"
    assert all(start < 1 for start, _ in read.seconds)


def test_what_is_in_the_folder(trained: Report) -> None:
    folder = trained.path.parent
    names = {"failures.jsonl", "history.jsonl", "metrics.json", "salience.onnx", "sampler.json"}
    assert {p.name for p in folder.iterdir()} == names
    values = json.loads((folder / "metrics.json").read_text())
    assert values == json.loads(json.dumps(trained.to_dict()))
    assert values["metrics"] == trained.spec.metrics
    assert len((folder / "history.jsonl").read_text().splitlines()) == 8
    assert SamplerResult.read(folder) == trained.result
    assert trained.result.teacher_identity.startswith("tiny-linear ")


def test_what_is_promised_was_measured_on_videos_that_chose_nothing(trained: Report) -> None:
    rule = trained.result.stopping
    assert rule is not None
    assert rule.num_videos == trained.videos["held_out"]
    assert (rule.error_bound, rule.confidence, rule.max_clips) == (0.25, 0.9, 3)
    assert [r.error_bound for r in trained.result.rules] == [0.25, 0.5]
    assert "at most 1.0% of videos change their class" in trained.result.stopping_refused
    assert trained.result.other_stopping[0].threshold <= rule.threshold
    # Either there is a temperature, from half of the same videos, or a reason why there is none.
    calibration = trained.result.calibration
    assert (calibration is None) == bool(trained.result.calibration_refused)
    if calibration is not None:
        assert calibration.num_videos == (trained.videos["held_out"] + 1) // 2


def test_few_videos_and_some_that_cannot_be_used(
    videos: SamplerVideos, teacher: WindowTeacher, cache: Path, tmp_path: Path
) -> None:
    """A train video is empty, another one shorter than a clip, and a val video is not there."""
    (tmp_path / "empty.mp4").write_bytes(b"")
    write_video(tmp_path / "short.mp4", ["red"], seconds_each=0.25)
    empty, short, gone = (
        dataclasses.replace(videos.train[0], video=SetVideo(name=n, path=tmp_path / n), action=())
        for n in ("empty.mp4", "short.mp4", "gone.mp4")
    )
    some = SamplerVideos(
        train=(empty, short, *videos.train[:4]), select=videos.select[:2], held_out=(gone, *videos.held_out[:8])
    )
    config = dataclasses.replace(CONFIG, fit=FitConfig(epochs=1))
    report = train_sampler(some, teacher, tmp_path / "out", config, cache=cache)
    rows = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert [(r["video"], r["reason"], r["split"]) for r in rows] == [
        ("empty.mp4", "EMPTY_VIDEO", "train"),
        ("gone.mp4", "VIDEO_NOT_FOUND", "val"),
    ]
    assert report.videos == {"train": 5, "select": 2, "held_out": 8}
    assert report.unpaired == 1, "the short one has a single window"
    assert report.result.stopping is None
    assert [r.error_bound for r in report.result.rules] == [0.5], "for which 8 are enough"
    assert "8 held-out videos are too few" in report.result.stopping_refused
    assert "8 held-out videos are too few for a temperature" in report.result.calibration_refused
    with pytest.raises(DatasetError, match=r"none of 1 training videos can be used; the first: empty\.mp4"):
        train_sampler(dataclasses.replace(some, train=(empty,)), teacher, tmp_path / "none", config, cache=cache)


def test_without_labels_the_heavy_network_says_the_class(
    world: ColorWorld, teacher: WindowTeacher, cache: Path, tmp_path: Path
) -> None:
    files = [SetVideo(name=p.name, path=p) for p in sorted(world.manifest.parent.glob("*.mp4"))[:20]]
    config = dataclasses.replace(CONFIG, fit=FitConfig(epochs=1))
    report = train_sampler(unlabelled_videos(files), teacher, tmp_path, config, cache=cache)
    assert not report.labelled
    assert sum(report.videos.values()) == 20
    assert report.result.calibration_refused == "a temperature needs labels that people gave"
    assert report.spec.metrics["top1_all"] == 1, "it agrees with itself"
    assert "annotated_videos" not in report.spec.metrics


def test_what_the_reader_could_not_do_is_told(
    videos: SamplerVideos, teacher: WindowTeacher, cache: Path, tmp_path: Path
) -> None:
    """Motion JPEG has no motion vectors."""
    frames = np.stack([painted(COLORS["red"] if i < 8 else GREY, i) for i in range(24)])
    file = tmp_path / "mjpeg.avi"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mjpeg", rate=8)
        stream.width, stream.height, stream.pix_fmt = 48, 36, "yuvj420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    made = dataclasses.replace(videos.train[0], video=SetVideo(name="mjpeg.avi", path=file))
    some = SamplerVideos(train=(made, videos.train[1]), select=(), held_out=())
    config = dataclasses.replace(CONFIG, kind="compressed", fit=FitConfig(epochs=1))
    report = train_sampler(some, teacher, tmp_path / "out", config, cache=cache)
    ((note, count),) = report.notes.items()
    assert "mjpeg" in note
    assert count == 1


def test_sound(videos: SamplerVideos, teacher: WindowTeacher, cache: Path, data_dir: Path, tmp_path: Path) -> None:
    """Two real videos have sound, the coloured ones have none."""
    real = [SetVideo(name=n, path=data_dir / "clips" / n) for n in ("archery.avi", "apply_eye_makeup.avi")]
    silent, *_ = videos.train
    config = dataclasses.replace(CONFIG, kind="audio", fit=FitConfig(epochs=1, tolerance=0), max_windows=12)
    heard = tuple(dataclasses.replace(silent, video=v, label=None) for v in real)
    some = SamplerVideos(train=(*heard, silent), select=(), held_out=())
    report = train_sampler(some, teacher, tmp_path, config, cache=cache)
    assert report.videos["train"] == 2
    assert [f["video"] for f in report.failures] == ["000.mp4"]
    assert load_sampler(tmp_path / "salience-audio.onnx").spec.kind == "audio"
    with pytest.raises(DatasetError, match=r"none of 1 training videos can be used; the first: 000\.mp4: .*no sound"):
        train_sampler(dataclasses.replace(some, train=(silent,)), teacher, tmp_path / "none", config, cache=cache)


def test_a_stopped_run_goes_on_and_a_second_run_looks_at_no_video_and_gives_the_same(
    videos: SamplerVideos, teacher: WindowTeacher, tmp_path: Path
) -> None:
    """Stopped while the third video is being scored: the two before it are not looked at again."""

    def stop(what: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    some = SamplerVideos(train=videos.train[:3], select=videos.select[:2], held_out=videos.held_out[:2])
    config = dataclasses.replace(CONFIG, fit=FitConfig(epochs=2, batch_size=2))
    cache = tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        train_sampler(some, teacher, tmp_path / "a", config, cache=cache, progress=stop)
    seen: list[tuple[str, int]] = []

    def note(what: str, done: int, total: int) -> None:
        seen.append((what, done))

    whole = train_sampler(some, teacher, tmp_path / "a", config, cache=cache, progress=note)
    assert next(done for what, done in seen if what == "teacher") == 4
    assert len([1 for what, _ in seen if what == "inputs"]) == 7
    seen.clear()
    again = train_sampler(some, teacher, tmp_path / "b", config, cache=cache, progress=note)
    assert seen == []
    assert again.spec == whole.spec
    assert again.path.read_bytes() == whole.path.read_bytes()
