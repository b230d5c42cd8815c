"""What workers say: everything survives the way, and nothing but what the types allow arrives."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import TenclipError, VideoError, VideoNotFound, error_classes
from tenclip_serving.decoding import worker_messages
from tenclip_serving.decoding.worker_messages import ClipsWanted, Decoded, Failure, Fault, Ready, Timeline
from tenclip_video.clips import read_clips
from tenclip_video.protocols import Protocol
from tenclip_video.salience import SalienceTimeline
from tenclip_video.sampling import ClipSelection
from tests.tenclip_serving.helpers import SPEC


@pytest.mark.parametrize(
    "error",
    [
        cls("said this", source="a.mp4") if issubclass(cls, VideoError) else cls("said this")
        for cls in error_classes().values()
    ],
    ids=lambda e: type(e).__name__,
)
def test_every_error_keeps_its_class(error: TenclipError) -> None:
    answer = worker_messages.decode(worker_messages.encode(Failure.of(error)))
    assert isinstance(answer, Failure)
    received = answer.error()
    assert type(received) is type(error)
    assert str(received) == "said this"
    assert getattr(received, "source", None) == getattr(error, "source", None)


def test_names_that_are_no_utf8_come_through() -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    answer = worker_messages.decode(
        worker_messages.encode(Failure.of(VideoNotFound(f"{name}: no such file", source=name)))
    )
    assert answer == Failure("VIDEO_NOT_FOUND", "caf\\udce9.mp4: no such file", "caf\\udce9.mp4")


def test_an_error_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="an error of the kind 'SYSTEM_EXIT'"):
        Failure("SYSTEM_EXIT", "x").error()


def test_a_long_traceback_keeps_its_end() -> None:
    assert Fault.of("x" * 10_000_000 + "the end").trace.endswith("xthe end")
    assert len(worker_messages.encode(Fault.of("x" * 10_000_000))) < 200_000


def test_everything_of_a_result_comes_through(videos: Path) -> None:
    video = read_clips(videos / "colors.mp4", SPEC, Protocol(selection=ClipSelection(num_clips=3)), timeline=True)
    answer = worker_messages.decode(worker_messages.encode(Decoded.of(video)))
    assert isinstance(answer, Decoded)
    assert answer.shape == video.clips.shape
    for name in ("plan", "seconds", "views", "info", "report", "preprocess_seconds", "score_seconds"):
        assert getattr(answer, name) == getattr(video, name)
    assert video.timeline is not None
    assert answer.timeline is not None
    again = answer.timeline.timeline()
    assert (again.scorer, again.seconds) == (video.timeline.scorer, video.timeline.seconds)
    np.testing.assert_array_equal(again.scores, video.timeline.scores)
    np.testing.assert_array_equal(again.selected, video.timeline.selected)
    assert (again.scores.dtype.str, again.selected.dtype.str) == ("<f4", "|b1")


def test_a_timeline_of_parts_that_do_not_fit() -> None:
    whole = Timeline.of(SalienceTimeline("s", ((0.0, 1.0),), np.ones(1, np.float32), np.ones(1, bool)))
    for changes in ({"seconds": b"x"}, {"seconds": bytes(24)}, {"scores": b""}, {"scores": b"123"}, {"selected": b""}):
        with pytest.raises(ValueError, match=r"buffer|reshape|a timeline of"):
            msgspec.structs.replace(whole, **changes).timeline()


def ranked(**changes: Any) -> Timeline:
    """Of five windows, three of which were chosen: 4, 0 and 3, in this order."""
    selected = np.array([True, False, False, True, True])
    seconds = tuple((float(i), i + 1.0) for i in range(5))
    timeline = SalienceTimeline("s", seconds, np.ones(5, np.float32), selected, (4, 0, 3), flat=True, notes=("a note",))
    return msgspec.structs.replace(Timeline.of(timeline), **changes)


def test_rankings_and_notes_come_through() -> None:
    again = ranked().timeline()
    assert again.ranking == (4, 0, 3)
    assert (again.flat, again.notes) == (True, ("a note",))


@pytest.mark.parametrize(
    "ranking", [[4, 0], [4, 0, 3, 3], [4, 0, 1], [4, 0, 5], [4, 0, -1], [4, 0, 2**62], [0, 0, 0], [4, 0, 3, 1]]
)
def test_a_ranking_of_other_windows_than_those_selected(ranking: list[int]) -> None:
    with pytest.raises(ValueError, match="a ranking of"):
        ranked(ranking=np.array(ranking, np.int64).tobytes()).timeline()


def test_a_ranking_that_is_no_array() -> None:
    with pytest.raises(ValueError, match="buffer size"):
        ranked(ranking=b"123").timeline()


@pytest.mark.parametrize("notes", [("x",) * 17, ("x" * 10_000,)])
def test_more_notes_than_there_can_be(notes: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="notes"):
        ranked(notes=notes).timeline()


def test_long_notes_of_our_own_are_cut() -> None:
    timeline = SalienceTimeline("s", (), np.ones(0, np.float32), np.ones(0, bool), notes=("\udce9" * 5000,) * 40)
    assert len(Timeline.of(timeline).timeline().notes) == 16


def test_truth_values_are_zero_and_one_whatever_the_bytes() -> None:
    timeline = Timeline(scorer="s", seconds=bytes(32), scores=bytes(8), selected=b"\x00\xff").timeline()
    assert timeline.selected.view(np.uint8).tolist() == [0, 1]


class RawPointers:
    """Pickles to an array of objects whose pointers the sender chose: to look at one ends the process."""

    def __reduce__(self) -> tuple[Any, ...]:
        return np.zeros(1).__reduce__()[0], (np.ndarray, (0,), b"b"), (1, (4,), _ObjectType(), False, b"A" * 32)


class _ObjectType:
    def __reduce__(self) -> tuple[Any, ...]:
        return np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo taken over",)


@pytest.mark.parametrize("attack", [RawPointers(), Code(), [Code()]])
def test_nothing_is_unpickled(attack: object) -> None:
    with pytest.raises(msgspec.MsgspecError):
        worker_messages.decode(pickle.dumps(attack))


@pytest.mark.parametrize(
    "data",
    [
        {"type": "ClipsWanted", "shape": [1, 2, 3, 4]},
        {"type": "ClipsWanted", "shape": [1, 2, 3, 4, 5.5]},
        {"type": "ClipsWanted", "shape": [1, 2, 3, 4, 2**64 - 1, 1]},
        {"type": "ClipsWanted", "shape": "12345"},
        {"type": "ClipsWanted"},
        {"type": "Failure", "reason": 1, "message": "x"},
        {"type": "Decoded", "shape": [1, 1, 1, 1, 3]},
        {"type": "DecodeRequest"},
        {"shape": [1, 2, 3, 4, 5]},
        [1],
        None,
    ],
    ids=repr,
)
def test_what_is_no_answer_is_refused(data: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        worker_messages.decode(msgspec.msgpack.encode(data))


@given(st.binary(max_size=200) | st.binary(max_size=50).map(lambda tail: worker_messages.encode(Ready())[:-3] + tail))
def test_bytes_of_any_kind_are_an_answer_or_refused(data: bytes) -> None:
    try:
        answer = worker_messages.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    assert isinstance(answer, Ready | ClipsWanted | Failure | Fault | Decoded)
