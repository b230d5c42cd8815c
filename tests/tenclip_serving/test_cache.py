from __future__ import annotations

import pickle
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_serving.cache import AnswerCache, answer_bytes, cache_key
from tenclip_serving.decoding.child import DecodeRequest
from tenclip_serving.intake.path_access import file_stamp
from tenclip_serving.models.repository import ServedModel
from tenclip_serving.models.samplers import load_served_sampler
from tenclip_serving.requests import Recognition, RecognizedClip
from tenclip_serving.resolve_salience import Salience
from tenclip_serving.runtimes.fake import FakeRuntime
from tenclip_video.bundle import read_bundle
from tenclip_video.filmstrip import Thumbnail
from tenclip_video.protocols import PROTOCOLS
from tenclip_video.salience import SalienceTimeline
from tests.tenclip_serving.api.test_servicer import recognition
from tests.tenclip_serving.helpers import RULE, SPEC, Sampler, make_bundle

TEN = PROTOCOLS["ten-clip"]


def answer() -> Recognition:
    plain = recognition()
    return replace(plain, report=replace(plain.report, warnings=()))


def test_the_answer_that_was_kept() -> None:
    seen: list[int] = []
    cache = AnswerCache(1 << 20, on_bytes=seen.append)
    kept = answer()
    assert cache.get("a") is None
    cache.put("a", kept)
    cache.put("a", answer())
    assert cache.get("a") is kept
    assert cache.get("b") is None
    assert seen == [answer_bytes(kept)]


def test_who_was_not_asked_for_longest_goes() -> None:
    size = answer_bytes(answer())
    cache = AnswerCache(3 * size)
    for key in "abc":
        cache.put(key, answer())
    cache.get("a")
    cache.put("d", answer())
    assert [key for key in "abcd" if cache.get(key) is not None] == ["a", "c", "d"]
    assert cache.num_bytes == 3 * size


def test_what_is_too_large_or_warns_is_not_kept() -> None:
    cache = AnswerCache(answer_bytes(answer()) - 1)
    cache.put("large", answer())
    cache = AnswerCache(1 << 20)
    cache.put("warns", recognition())
    assert len(cache) == cache.num_bytes == 0


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(0, 5))
def test_it_never_holds_more_than_it_may(keys: list[int], room: int) -> None:
    size = answer_bytes(answer())
    cache = AnswerCache(room * size + 1)
    for key in keys:
        cache.put(key, answer())
        assert cache.num_bytes == len(cache) * size <= room * size


def test_its_size_is_about_what_it_takes() -> None:
    large = replace(answer(), clip_features=np.zeros((1000, 512), np.float32))
    assert answer_bytes(large) > 1000 * 512 * 4
    assert answer_bytes(replace(large, calibrated=np.zeros(9, np.float32))) == answer_bytes(large) + 36
    assert answer_bytes(replace(large, clips=large.clips * 100)) > answer_bytes(large) + 100 * 600
    pictures = tuple(Thumbnail(seconds=float(i), jpeg=bytes(4000), width=96, height=72) for i in range(12))
    assert answer_bytes(replace(large, thumbnails=pictures)) > answer_bytes(large) + 12 * 4000


@pytest.mark.parametrize(("num_clips", "num_windows"), [(1, 0), (10, 0), (10, 10_000), (300, 0), (300, 3_000)])
def test_answers_take_no_more_than_is_counted(num_clips: int, num_windows: int) -> None:
    rng = np.random.default_rng(0)
    times = rng.random((num_windows, 2)).tolist()
    timeline = SalienceTimeline(
        "s", tuple((a, b) for a, b in times), np.zeros(num_windows, np.float32), np.zeros(num_windows, np.bool_)
    )
    clip = RecognizedClip(index=0, start_seconds=1.5, end_seconds=2.5, frames=tuple(range(1000, 1016)), looped=False)
    made = replace(
        answer(),
        clips=(clip,) * num_clips,
        clip_features=np.zeros((num_clips, 512), np.float32),
        timeline=timeline if num_windows else None,
    )
    pickled = pickle.dumps(replace(made, labels=()))  # which are the model's
    # Pickling keeps what is the same the same, which no two clips or numbers of a real answer are.
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = [pickle.loads(pickled) for _ in range(5)]
        for one in kept:
            clips = tuple(replace(clip, frames=tuple(int(str(i)) for i in clip.frames)) for clip in one.clips)
            object.__setattr__(one, "clips", clips)
        del one, clips
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.4 * answer_bytes(made) < (after - before) / 5 < answer_bytes(made)


@pytest.fixture
def model(tmp_path: Path) -> ServedModel:
    bundle = read_bundle(make_bundle(tmp_path))
    return ServedModel(bundle=bundle, runtime=FakeRuntime(), runtime_reason="tests", fingerprint=(("a", 1, 2, 3),))


def request(source: str | bytes, *, name: str = "v", timeline: bool = False) -> DecodeRequest:
    return DecodeRequest(source=source, name=name, spec=SPEC, protocol=TEN, timeline=timeline)


def test_the_key_is_all_that_an_answer_depends_on(model: ServedModel, tmp_path: Path) -> None:
    file = tmp_path / "video"
    file.write_bytes(b"content")
    plain = Salience()
    key = cache_key(request(b"content"), model, plain)
    assert cache_key(request(str(file), name="other"), model, plain) == key
    sampler = load_served_sampler(read_bundle(make_bundle(tmp_path, "sampled", sampler=Sampler())))
    other = load_served_sampler(read_bundle(make_bundle(tmp_path, "other", sampler=Sampler(weights=(0, 1, 0)))))
    again = load_served_sampler(read_bundle(make_bundle(tmp_path, "again", sampler=Sampler())))
    scored = cache_key(request(b"content"), model, Salience(sampler=sampler))
    assert cache_key(request(b"content"), model, Salience(sampler=again)) == scored
    different = [
        cache_key(request(b"contents"), model, plain),
        cache_key(request(b"content", timeline=True), model, plain),
        cache_key(replace(request(b"content"), thumbnails=4), model, plain),
        cache_key(replace(request(b"content"), protocol=PROTOCOLS["tsn-3"]), model, plain),
        cache_key(request(b"content"), replace(model, fingerprint=(("a", 1, 2, 4),)), plain),
        cache_key(request(b"content"), replace(model, variant="int8"), plain),
        scored,
        cache_key(request(b"content"), model, Salience(sampler=other)),
        cache_key(request(b"content"), model, Salience(sampler=sampler, stopping=RULE)),
        cache_key(request(b"content"), model, Salience(sampler=sampler, stopping=replace(RULE, threshold=0.9))),
    ]
    assert len({key, *different}) == 11


def test_a_file_that_is_gone_matches_nothing(model: ServedModel, tmp_path: Path) -> None:
    gone = request(str(tmp_path / "gone"))
    assert cache_key(gone, model, Salience()) != cache_key(gone, model, Salience())


def test_a_stamp_differs_when_a_file_does(tmp_path: Path) -> None:
    file = tmp_path / "video"
    file.write_bytes(b"one")
    with file.open("rb") as opened:
        before = file_stamp(opened.fileno())
        assert before is not None
        assert file_stamp(opened.fileno()) == before
        file.write_bytes(b"three")
        assert file_stamp(opened.fileno()) != before
    assert file_stamp(-1) is None
