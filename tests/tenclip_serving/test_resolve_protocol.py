from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import InvalidRequest
from tenclip_serving.requests import ClipRequest, RecognitionRequest
from tenclip_serving.resolve_protocol import (
    most_clip_bytes,
    protocol_name,
    resolve_protocol,
    supported_protocols,
)
from tenclip_video.protocols import PROTOCOLS, Protocol
from tenclip_video.sampling import ClipSelection
from tenclip_video.spec import ClipSpec
from tests.tenclip_serving.helpers import SPEC, without_fully_convolutional

POOLED_ONLY = without_fully_convolutional()


def resolve(
    spec: ClipSpec = SPEC,
    default: str = "ten-clip",
    *,
    protocol: str = "",
    spatial_mode: Any = None,
    max_clips: int = 100,
    max_clip_bytes: int = 1 << 30,
    **clips: Any,
) -> Protocol:
    request = RecognitionRequest(data=b"x", protocol=protocol, spatial_mode=spatial_mode, clips=ClipRequest(**clips))
    return resolve_protocol(request, spec, default, max_clips=max_clips, max_clip_bytes=max_clip_bytes)


@pytest.mark.parametrize("default", list(PROTOCOLS))
def test_an_empty_request_runs_the_models_own_protocol(default: str) -> None:
    resolved = resolve(default=default)
    expected = PROTOCOLS[default]
    assert resolved.name == default
    assert replace(resolved.selection, max_clips=None) == expected.selection
    assert (resolved.fully_convolutional, resolved.crop) == (expected.fully_convolutional, expected.crop)


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_named_protocol_on_a_part_of_the_video(name: str) -> None:
    resolved = resolve(protocol=name, start_seconds=1.0, end_seconds=2.5)
    assert resolved.name == name
    assert (resolved.selection.start_seconds, resolved.selection.end_seconds) == (1.0, 2.5)


def test_clips_override_the_default_protocol() -> None:
    resolved = resolve(num_clips=3)
    assert resolved.selection == ClipSelection(num_clips=3, max_clips=100)


@pytest.mark.parametrize(
    ("default", "asked", "name"),
    [
        ("ten-clip", {"num_clips": 3}, "3 uniform clips, centre crop, pooled, probabilities averaged"),
        ("ten-clip", {"mode": "center"}, "the centre clip, centre crop, pooled, probabilities averaged"),
        (
            "ten-clip",
            {"mode": "windows", "window_step": 2},
            "all windows every 2 frames, centre crop, pooled, probabilities averaged",
        ),
        (
            "ten-clip",
            {"mode": "salient", "num_clips": 4, "spatial_mode": "fully_convolutional"},
            "4 salient clips, centre crop, fully-convolutional, probabilities averaged",
        ),
        (
            "mmaction2-10x3",
            {"num_clips": 3},
            "3 uniform clips placed by mmaction2, 3 crops, pooled, probabilities averaged",
        ),
        ("tsn-3", {"mode": "uniform", "num_clips": 10}, "10 uniform clips, centre crop, pooled, logits averaged"),
        ("tsn-3", {"num_clips": 10}, "10 uniform clips placed by tsn, centre crop, pooled, logits averaged"),
        (
            "fully-convolutional-se",
            {"num_clips": 2},
            "2 uniform clips, centre crop, fully-convolutional, short edge scaled, probabilities averaged",
        ),
        (
            "vmz-joint",
            {"num_clips": 2},
            "2 uniform clips, centre crop, fully-convolutional, one softmax over classes and positions",
        ),
    ],
)
def test_what_was_done_is_said_in_words(default: str, asked: dict[str, Any], name: str) -> None:
    assert resolve(default=default, **asked).name == f"custom: {name}"


def test_a_name_is_only_that_of_the_models_own_protocol_or_the_one_asked_for() -> None:
    assert resolve(default="center-clip", mode="center", num_clips=1).name == "center-clip"
    assert resolve(mode="uniform", num_clips=10).name == "ten-clip"
    assert resolve(default="tsn-3", protocol="vmz-logits").name == "vmz-logits"
    # The same as a protocol of another name, which nobody has asked for.
    assert resolve(default="center-clip", mode="uniform").name.startswith("custom: 10 uniform clips")
    assert resolve(default="fully-convolutional", spatial_mode="pooled").name.startswith("custom: 10 uniform clips")
    assert resolve(spatial_mode="fully_convolutional").name.startswith("custom: 10 uniform clips")


def test_unknown_protocol_lists_those_of_the_model() -> None:
    with pytest.raises(InvalidRequest, match=r"no protocol 'best'; this model has ten-clip, (?!fully).*center-clip"):
        resolve(POOLED_ONLY, protocol="best")


def test_fully_convolutional_needs_the_crop() -> None:
    assert "fully-convolutional" not in supported_protocols(POOLED_ONLY)
    assert supported_protocols(SPEC) == tuple(PROTOCOLS)
    with pytest.raises(InvalidRequest, match="has no fully-convolutional crop"):
        resolve(POOLED_ONLY, spatial_mode="fully_convolutional")
    with pytest.raises(InvalidRequest, match="needs a fully-convolutional crop"):
        resolve(POOLED_ONLY, protocol="fully-convolutional")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"mode": "uniform"}, "clips.mode"),
        ({"num_clips": 10}, "clips.num_clips"),
        ({"window_step": 1}, "clips.window_step_frames"),
        ({"spatial_mode": "pooled"}, "spatial_mode"),
    ],
)
def test_protocol_and_fields_contradict(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest, match=f"already says which clips and crops are used; leave out {named}"):
        resolve(protocol="ten-clip", **fields)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"num_clips": 101}, "num_clips 101 is more than the 100"),
        ({"num_clips": 2**32 - 1}, "more than the 100"),
        ({"mode": "center", "num_clips": 2}, "CENTER is one clip"),
        ({"mode": "windows", "num_clips": 2}, "WINDOWS is every window"),
        ({"mode": "uniform", "window_step": 2}, "window_step_frames 2 has no meaning for UNIFORM"),
        ({"window_step": 2}, "no meaning for UNIFORM"),
        ({"start_seconds": float("nan")}, "start_seconds must be finite"),
        ({"end_seconds": float("inf")}, "end_seconds must be finite"),
        ({"start_seconds": -0.5}, "not negative, got -0.5"),
        ({"start_seconds": 3.0, "end_seconds": 3.0}, "end_seconds 3.0 is not after start_seconds 3.0"),
    ],
)
def test_what_makes_no_sense(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        resolve(**fields)


def test_the_byte_limit_counts_pixels() -> None:
    clip = SPEC.num_frames * SPEC.crop**2 * 3
    with pytest.raises(InvalidRequest, match="num_clips 10 is more than the 6"):  # three crops of each
        resolve(default="mmaction2-10x3", max_clip_bytes=20 * clip)
    assert resolve(num_clips=20, max_clip_bytes=20 * clip).selection.max_clips == 20
    with pytest.raises(InvalidRequest, match="num_clips 20 is more than the 19"):
        resolve(num_clips=20, max_clip_bytes=20 * clip - 1)
    # The larger crop counts as what it is.
    with pytest.raises(InvalidRequest, match="more than the 12"):
        resolve(num_clips=20, max_clip_bytes=20 * clip, spatial_mode="fully_convolutional")


def test_windows_are_not_held_to_the_default_of_ten() -> None:
    assert resolve(mode="windows", max_clips=5).selection.max_clips == 5


@given(
    mode=st.sampled_from([None, "uniform", "center", "windows", "salient"]),
    num_clips=st.integers(0, 200),
    window_step=st.integers(0, 50),
    start=st.floats() | st.just(0.0),
    end=st.floats() | st.just(0.0),
    protocol=st.sampled_from(["", *PROTOCOLS]),
    default=st.sampled_from(list(PROTOCOLS)),
    spatial_mode=st.sampled_from([None, "pooled", "fully_convolutional"]),
)
def test_everything_ends_in_a_protocol_or_an_invalid_request(
    mode: Any,
    num_clips: int,
    window_step: int,
    start: float,
    end: float,
    protocol: str,
    default: str,
    spatial_mode: Any,
) -> None:
    try:
        resolved = resolve(
            default=default,
            protocol=protocol,
            spatial_mode=spatial_mode,
            mode=mode,
            num_clips=num_clips,
            window_step=window_step,
            start_seconds=start,
            end_seconds=end,
        )
    except InvalidRequest:
        return
    assert resolved.selection.num_clips <= 100
    assert resolved.name == protocol_name(resolved, protocol or default)
    assert not protocol or resolved.name == protocol
    assert mode in (None, resolved.selection.mode)


@pytest.mark.parametrize(
    ("asked", "num", "most"),
    [
        ({}, 10, 10),
        ({"mode": "center"}, 1, 1),
        ({"mode": "salient", "num_clips": 3}, 3, 3),
        ({"mode": "windows"}, None, 100),
        ({"protocol": "mmaction2-10x3"}, 30, 30),
        ({"protocol": "3d-resnets"}, None, 100),
    ],
)
def test_clips_and_bytes_are_known_before_decoding(asked: dict[str, Any], num: int | None, most: int) -> None:
    protocol = resolve(**asked)
    assert protocol.num_planned == num
    assert protocol.max_planned == most
    assert most_clip_bytes(protocol, SPEC) == most * 4 * 32 * 32 * 3


def test_larger_crops_take_more_bytes() -> None:
    assert most_clip_bytes(resolve(protocol="vmz-10x3"), SPEC) == 30 * 4 * 40 * 40 * 3


@given(num_clips=st.integers(1, 50), name=st.sampled_from(list(PROTOCOLS)))
def test_no_request_may_take_more_than_the_limit_or_one_clip(num_clips: int, name: str) -> None:
    try:
        protocol = resolve(default=name, num_clips=num_clips, max_clip_bytes=200_000)
    except InvalidRequest:
        return
    one = protocol.views * 4 * 40 * 40 * 3
    assert most_clip_bytes(protocol, SPEC) <= max(200_000, one)
