from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tenclip_api.errors import BundleError, InvalidRequest
from tenclip_video.clips import candidates, read_clips
from tenclip_video.protocols import Protocol
from tenclip_video.salience import (
    LearnedScorer,
    MotionEnergyScorer,
    Sampler,
    SamplerSpec,
    WindowScores,
    check_clips,
    default_spec,
    load_sampler,
    read_sampler_files,
    read_windows,
    scorer_by_name,
)
from tenclip_video.salience.audio import NO_SOUND
from tenclip_video.salience.learned import FLAT, FLAT_SOUND, MAX_SAMPLER_BYTES, NOT_A_NUMBER, NOT_A_NUMBER_SOUND
from tenclip_video.sampling import Clip, ClipSelection
from tenclip_video.spec import ClipSpec, Resize
from tenclip_video.video import open_video
from tests.samplers import Behaviour, make_sampler
from tests.tenclip_video.salience.panning import HEIGHT, WIDTH, pan, still, windows_of
from tests.tenclip_video.salience.test_audio import burst, video_with_sound
from tests.videos import Recipe, make_video

MODEL = ClipSpec(num_frames=8, resize=Resize(height=48, width=64), crop=48, fully_convolutional_crop=None)
SPEC = default_spec("compressed", MODEL)
SOUND = default_spec("audio", MODEL)
SALIENT = Protocol(selection=ClipSelection(mode="salient", num_clips=4))


def sampler(spec: SamplerSpec = SPEC, behaviour: Behaviour = "contrast", channels: tuple[int, ...] = (0, 1)) -> Sampler:
    data = make_sampler(spec, behaviour, channels=channels if spec.kind == "compressed" else None)
    return load_sampler(data, name="salience.onnx")


@pytest.fixture(scope="module")
def moving() -> bytes:
    """Still but for frames 40 to 59, in which the camera pans."""

    def paint(number: int, height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        return pan(4, 0)(min(max(number - 40, 0), 20), height, width)

    return make_video(Recipe(width=WIDTH, height=HEIGHT, num_frames=100, gop=50), paint=paint)


def test_clips_are_taken_where_the_sampler_sees_motion(moving: bytes) -> None:
    found = read_clips(moving, MODEL, SALIENT, scorer=LearnedScorer(picture=sampler()))
    assert [clip.frames[0] for clip in found.plan] == [40, 44, 48, 52]
    assert found.timeline is not None
    assert found.timeline.scorer == "compressed"
    assert len(found.timeline.scores) == 24, "windows are half a clip apart, as the sampler's are"
    ranked = found.timeline.scores[list(found.timeline.ranking)]
    assert (np.diff(ranked) <= 0).all()
    assert set(found.timeline.ranking) == set(np.flatnonzero(found.timeline.selected).tolist())
    assert not found.timeline.flat
    assert found.timeline.notes == ()


@pytest.mark.parametrize("kind", ["compressed", "rgb", "keyframes"])
def test_scores_are_those_of_the_network_on_the_windows(moving: bytes, kind: str) -> None:
    spec = default_spec(kind, MODEL)  # type: ignore[arg-type]
    scorer = LearnedScorer(picture=load_sampler(make_sampler(spec)))
    data = moving if kind != "keyframes" else make_video(Recipe(num_frames=100, gop=10))
    with open_video(data) as video:
        clips = windows_of(video, spec, MODEL)
        inputs = read_windows(video, clips, spec).inputs
        scores = scorer.score(video, clips)
    assert inputs is not None
    assert scores.video.dtype == np.float32
    np.testing.assert_allclose(scores.video, inputs.mean(axis=(1, 2, 3, 4), dtype=np.float64), rtol=1e-4)


def test_scoring_leaves_no_trace_in_the_clips(moving: bytes) -> None:
    """All windows, chosen by a sampler, are those of the plan without one."""
    every = Protocol(selection=ClipSelection(mode="salient", num_clips=100, window_step=8))
    scored = read_clips(moving, MODEL, every, scorer=LearnedScorer(picture=sampler()))
    windows = read_clips(moving, MODEL, Protocol(selection=ClipSelection(mode="windows", window_step=8)))
    np.testing.assert_array_equal(scored.clips, windows.clips)


@pytest.mark.parametrize(
    ("selection", "scorer", "step"),
    [
        (ClipSelection(mode="salient"), LearnedScorer(picture=sampler()), 4),
        (ClipSelection(mode="salient", window_step=3), LearnedScorer(picture=sampler()), 3),
        (ClipSelection(mode="salient"), MotionEnergyScorer(), None),
        (ClipSelection(mode="uniform"), LearnedScorer(picture=sampler()), 4),
        (ClipSelection(mode="windows"), LearnedScorer(picture=sampler()), None),
    ],
    ids=lambda v: getattr(v, "name", None),
)
def test_the_step_between_candidates(
    selection: ClipSelection, scorer: LearnedScorer | MotionEnergyScorer, step: int | None
) -> None:
    assert candidates(selection, scorer).window_step == step


def test_a_timeline_of_a_uniform_selection_has_a_sampler_too(moving: bytes) -> None:
    found = read_clips(moving, MODEL, scorer=LearnedScorer(picture=sampler()), timeline=True)
    assert found.timeline is not None
    assert len(found.timeline.scores) == 24
    assert found.timeline.ranking == ()
    assert 10 <= int(found.timeline.scores.argmax()) <= 14


def test_too_many_windows_are_refused(moving: bytes) -> None:
    dense = Protocol(selection=ClipSelection(mode="salient", start_seconds=99.0))
    with pytest.raises(InvalidRequest, match="no frame between 99 s"):
        read_clips(moving, MODEL, dense, scorer=LearnedScorer(picture=sampler()))


# -- scores that say nothing ------------------------------------------------------------------------------------------


def spread(windows: int, clips: int) -> list[int]:
    return [int(at) for at in np.linspace(0, windows - 1, clips).round()]


@pytest.mark.parametrize(("behaviour", "note"), [("constant", FLAT), ("nan", NOT_A_NUMBER)])
def test_scores_that_say_nothing_spread_the_clips_evenly(moving: bytes, behaviour: Behaviour, note: str) -> None:
    found = read_clips(moving, MODEL, SALIENT, scorer=LearnedScorer(picture=sampler(behaviour=behaviour)))
    assert found.timeline is not None
    assert found.timeline.flat
    assert found.timeline.notes == (note,)
    assert not found.timeline.scores.any()
    assert np.flatnonzero(found.timeline.selected).tolist() == spread(24, 4)


def test_no_motion_at_all() -> None:
    data = make_video(Recipe(width=WIDTH, height=HEIGHT, num_frames=60, gop=60), paint=still)
    found = read_clips(data, MODEL, SALIENT, scorer=LearnedScorer(picture=sampler()))
    assert found.timeline is not None
    assert (found.timeline.flat, found.timeline.notes) == (True, (FLAT,))
    assert np.flatnonzero(found.timeline.selected).tolist() == spread(14, 4)


@pytest.mark.parametrize("num_frames", [1, 5])
def test_a_video_shorter_than_a_clip_has_one_window(num_frames: int) -> None:
    data = make_video(Recipe(num_frames=num_frames))
    found = read_clips(data, MODEL, SALIENT, scorer=LearnedScorer(picture=sampler()))
    assert len(found.plan) == 1
    assert found.timeline is not None
    assert found.timeline.ranking == (0,)
    assert found.timeline.notes == ()


def test_target_fps(moving: bytes) -> None:
    model = replace(MODEL, target_fps=12.5)
    spec = default_spec("compressed", model)
    found = read_clips(moving, model, SALIENT, scorer=LearnedScorer(picture=sampler(spec)))
    assert all(set(clip.frames) & set(range(40, 60)) for clip in found.plan)
    assert found.plan[0].frames[1] - found.plan[0].frames[0] == 2


# -- sound ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clap() -> bytes:
    """Four seconds; something is heard from 3.0 s to 3.4 s."""
    return video_with_sound(burst(3.0, 3.4))


def test_some_clips_are_chosen_by_their_sound(clap: bytes) -> None:
    scorer = LearnedScorer(picture=sampler(channels=(2,)), sound=sampler(SOUND, "mean"), audio_clips=2)
    found = read_clips(clap, MODEL, SALIENT, scorer=scorer)
    assert found.timeline is not None
    assert found.timeline.scorer == "compressed + audio"
    heard = [found.timeline.seconds[i] for i in found.timeline.ranking[-2:]]
    assert all(start < 3.4 and end > 3.0 for start, end in heard)
    assert found.timeline.notes == ()


def test_without_sound_pictures_alone_choose(moving: bytes) -> None:
    silent = LearnedScorer(picture=sampler(), sound=sampler(SOUND), audio_clips=2)
    found, expected = (
        read_clips(moving, MODEL, SALIENT, scorer=scorer) for scorer in (silent, LearnedScorer(picture=sampler()))
    )
    assert found.plan == expected.plan
    assert found.timeline is not None
    assert found.timeline.notes == (NO_SOUND,)


@pytest.mark.parametrize(("behaviour", "note"), [("constant", FLAT_SOUND), ("nan", NOT_A_NUMBER_SOUND)])
def test_sound_that_says_nothing_chooses_nothing(clap: bytes, behaviour: Behaviour, note: str) -> None:
    scorer = LearnedScorer(picture=sampler(channels=(2,)), sound=sampler(SOUND, behaviour), audio_clips=2)
    with open_video(clap) as video:
        scores = scorer.score(video, windows_of(video, SPEC, MODEL))
    assert scores.audio is None
    assert scores.notes == (note,)


def test_one_window_needs_no_choice() -> None:
    data = video_with_sound(burst(0, 9), seconds=0.2)
    scorer = LearnedScorer(picture=sampler(channels=(2,)), sound=sampler(SOUND, "mean"), audio_clips=2)
    found = read_clips(data, MODEL, SALIENT, scorer=scorer)
    assert found.timeline is not None
    assert (found.timeline.ranking, found.timeline.notes) == ((0,), ())


def test_where_pictures_say_nothing_sound_chooses(clap: bytes) -> None:
    scorer = LearnedScorer(picture=sampler(behaviour="constant"), sound=sampler(SOUND, "mean"), audio_clips=2)
    found = read_clips(clap, MODEL, SALIENT, scorer=scorer)
    assert found.timeline is not None
    assert not found.timeline.flat
    heard = [found.timeline.seconds[i] for i in found.timeline.ranking]
    assert all(start < 3.4 + 0.33 and end > 3.0 - 0.33 for start, end in heard)


def test_the_union_takes_the_best_of_both() -> None:
    scores = WindowScores(
        np.array([5, 4, 3, 2, 1], np.float32), audio=np.array([9, 1, 2, 8, 7], np.float32), audio_clips=2
    )
    assert scores.order(4).tolist() == [0, 1, 3, 4]
    flat = WindowScores(np.zeros(5, np.float32), audio=np.array([1, 2, 9, 3, 4], np.float32), audio_clips=1)
    assert flat.order(2).tolist() == [2, 4]


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (lambda: b"", "is no ONNX file that ONNX Runtime reads"),
        (lambda: b"\x08\x07 but not really", "is no ONNX file that ONNX Runtime reads"),
        (lambda: make_sampler(SPEC)[:-300], "is no ONNX file that ONNX Runtime reads|its metadata have no"),
        (lambda: make_sampler(SPEC, with_metadata=False), "is no sampler: its metadata have no tenclip.sampler"),
        (lambda: make_sampler(SPEC, metadata="{"), "tenclip.sampler of its metadata: "),
        (lambda: make_sampler(SPEC, metadata="[1]"), "tenclip.sampler of its metadata: "),
        (
            lambda: make_sampler(SPEC, metadata=json.dumps({**json.loads(SPEC.to_json()), "schema_version": 2})),
            "schema_version 2; this version of tenclip reads 1",
        ),
        (
            lambda: make_sampler(SPEC, metadata=json.dumps({**json.loads(SPEC.to_json()), "samples": 8.0})),
            "SamplerSpec.samples cannot be 8.0",
        ),
        (
            lambda: make_sampler(SPEC, metadata=json.dumps({**json.loads(SPEC.to_json()), "depth": 3})),
            "unexpected keyword argument 'depth'",
        ),
        (
            lambda: make_sampler(SPEC, input_shape=(4, 32, 32, 6)),
            r"its input is windows \[M,4,32,32,6\] tensor\(float\); .*\[M,8,32,32,6\]",
        ),
        (lambda: make_sampler(replace(SPEC, channels=5)), "with 5 channels; those of compressed samplers have 6"),
        (lambda: make_sampler(replace(SPEC, name="x" * 200)), "name of 200 characters"),
        (lambda: bytes(MAX_SAMPLER_BYTES + 1), "a sampler has at most 4194304"),
    ],
)
def test_files_that_are_no_samplers(tmp_path: Path, data: Callable[[], bytes], says: str) -> None:
    path = tmp_path / "salience.onnx"
    path.write_bytes(data())
    with pytest.raises(BundleError, match=says) as error:
        load_sampler(path)
    assert str(error.value).startswith(f"{path}: ")
    with pytest.raises(BundleError, match=says):
        load_sampler(path.read_bytes())


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nothing\.onnx: cannot be read: No such file"):
        load_sampler(tmp_path / "nothing.onnx")


def test_a_sampler_for_other_clips_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "salience.onnx"
    path.write_bytes(make_sampler(SPEC))
    check_clips(load_sampler(path), MODEL)
    with pytest.raises(BundleError, match=r"trained for clips of 8 frames of the video's own rate; .*16 frames"):
        check_clips(load_sampler(path), replace(MODEL, num_frames=16))
    with pytest.raises(BundleError, match=r"takes clips of 8 frames at 12.5 a second"):
        read_sampler_files(path, model_spec=replace(MODEL, target_fps=12.5))


def test_clips_of_another_length_are_not_scored(moving: bytes) -> None:
    with pytest.raises(BundleError, match=r"the model takes clips of 4 frames"):
        read_clips(moving, replace(MODEL, num_frames=4), SALIENT, scorer=LearnedScorer(picture=sampler()))


def test_a_network_that_fails_says_which_it_is(moving: bytes) -> None:
    loaded = sampler()
    with pytest.raises(BundleError, match=r"salience\.onnx: the sampler fails"):
        loaded.scores(np.zeros((2, 3), np.float32))


def test_samplers_that_change_places(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="listens; one that looks is needed"):
        LearnedScorer(picture=sampler(SOUND))
    with pytest.raises(BundleError, match=r"looks \(compressed\); its kind must be audio"):
        LearnedScorer(picture=sampler(), sound=sampler(), audio_clips=1)
    with pytest.raises(ValueError, match="audio_clips must not be negative"):
        LearnedScorer(picture=sampler(), audio_clips=-1)


def test_files_for_decode_workers(tmp_path: Path) -> None:
    picture, sound = tmp_path / "salience.onnx", tmp_path / "sound.onnx"
    picture.write_bytes(make_sampler(SPEC))
    sound.write_bytes(make_sampler(SOUND))
    files = read_sampler_files(picture, sound, audio_clips=3, model_spec=MODEL)
    assert (files.window_step, files.audio_clips, files.names) == (4, 3, ("salience.onnx", "sound.onnx"))
    assert files.scorer().name == "compressed + audio"
    assert files.without_bytes == replace(files, picture=b"", sound=None)
    others = [
        read_sampler_files(picture),
        read_sampler_files(picture, sound, audio_clips=2),
        read_sampler_files(picture, audio_clips=3),
    ]
    assert len({files.digest, *(other.digest for other in others)}) == 4
    sound.write_bytes(make_sampler(default_spec("audio", replace(MODEL, num_frames=4))))
    with pytest.raises(BundleError, match=r"sound\.onnx: this sampler was trained for clips of 4 frames"):
        read_sampler_files(picture, sound, model_spec=MODEL)


def test_scorers_by_name() -> None:
    assert scorer_by_name("motion-energy") == MotionEnergyScorer()
    with pytest.raises(ValueError, match="scorer 'best' is not one of motion-energy"):
        scorer_by_name("best")


def test_onnx_runtime_is_loaded_when_it_is_needed() -> None:
    code = (
        "import sys, tenclip_video.salience as s; assert 'onnxruntime' not in sys.modules\n"
        "sys.modules['onnxruntime'] = None\n"
        "try: s.load_sampler(b'x')\n"
        "except s.learned.MissingDependency as err: print(err)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "samplers need ONNX Runtime: pip install 'tenclip[serve]'\n"


def test_no_windows_no_scores(moving: bytes) -> None:
    with open_video(moving) as video:
        scores = LearnedScorer(picture=sampler(), sound=sampler(SOUND), audio_clips=1).score(video, [])
        assert scores.video.shape == (0,)
        one = LearnedScorer(picture=sampler()).score(video, [Clip(tuple(range(8)))])
        assert one.video.shape == (1,)
        assert one.notes == ()
