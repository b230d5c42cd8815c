"""Addresses and channel options."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_client import InvalidRequest
from tenclip_client._channel import channel_options, parse_target


@pytest.mark.parametrize(
    ("target", "dialled"),
    [
        ("127.0.0.1:50051", "127.0.0.1:50051"),
        ("gpu-box", "gpu-box:7411"),
        ("gpu-box:80", "gpu-box:80"),
        ("[::1]:80", "[::1]:80"),
        ("[::1]", "[::1]:7411"),
        ("::1", "[::1]:7411"),
        ("fe80::1:2", "[fe80::1:2]:7411"),
        ("2001:db8:0:0:0:0:0:7511", "[2001:db8:0:0:0:0:0:7511]:7411"),
        ("unix:///run/tenclip.sock", "unix:///run/tenclip.sock"),
        ("dns:///tenclip.svc:7411", "dns:///tenclip.svc:7411"),
    ],
)
def test_targets(target: str, dialled: str) -> None:
    assert parse_target(target) == dialled


@pytest.mark.parametrize(
    "target",
    ["", " ", "a b:1", "http://box:80", "box:", ":80", "box:0", "box:65536", "box:99999", "box:x", "box:-1", "[::1]80"],
)
def test_targets_that_are_none(target: str) -> None:
    with pytest.raises(InvalidRequest, match="HOST:PORT"):
        parse_target(target)


@pytest.mark.parametrize(
    ("target", "instead"),
    [
        ("::1:7511", r"\[::1\]:7511; if it is all address, \[::1:7511\]"),
        ("::1:50051", r"\[::1\]:50051$"),
        ("2001:db8:1:2:3:4:5:6:7411", r"\[2001:db8:1:2:3:4:5:6\]:7411$"),
    ],
)
def test_ipv6_with_a_port_and_no_brackets(target: str, instead: str) -> None:
    with pytest.raises(InvalidRequest, match=instead):
        parse_target(target)


@pytest.mark.parametrize("target", ["box:٣", "box:80/path", "box]:80", "[::1:80", "[]:80:"])
def test_odder_ones(target: str) -> None:
    with pytest.raises(InvalidRequest, match="HOST:PORT"):
        parse_target(target)


@given(host=st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z]{2,5})?", fullmatch=True), port=st.integers(1, 65535))
def test_parsing_is_stable(host: str, port: int) -> None:
    assert parse_target(parse_target(f"{host}:{port}")) == f"{host}:{port}"


def test_options() -> None:
    options = dict(channel_options(retries=2, keepalive_seconds=12.5, extra=[("grpc.keepalive_time_ms", 7)]))
    assert options["grpc.max_send_message_length"] == options["grpc.max_receive_message_length"] == -1
    assert options["grpc.keepalive_time_ms"] == 7
    (config,) = json.loads(options["grpc.service_config"])["methodConfig"]
    assert config["retryPolicy"]["maxAttempts"] == 3
    assert config["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE", "CANCELLED"]


def test_options_that_are_switched_off() -> None:
    options = dict(channel_options(retries=0, keepalive_seconds=None, extra=()))
    assert options["grpc.enable_retries"] == 0
    config = json.loads(options["grpc.service_config"])
    assert "retryPolicy" not in config["methodConfig"][0]
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    assert "grpc.keepalive_time_ms" not in options
