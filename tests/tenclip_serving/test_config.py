from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tenclip_serving.config import ServerConfig
from tenclip_serving.decoding.sandbox import SandboxLimits
from tenclip_video.source import Limits


def test_defaults_are_valid(tmp_path: Path) -> None:
    config = ServerConfig(directory=tmp_path)
    assert config.num_decode_workers >= 1
    assert "port=7411" in config.describe()
    assert "allow_roots=none" in config.describe()


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("port", 65536, "port must be from 0 to 65535, got 65536"),
        ("port", -1, "port must be"),
        ("metrics_port", -2, "metrics_port must be from -1"),
        ("max_message_mb", 2048, "max_message_mb must be from 1 to 2047"),
        ("max_message_mb", 0, "max_message_mb"),
        ("max_clips", 0, "max_clips"),
        ("decode_workers", -1, "decode_workers"),
        ("max_queue", -1, "max_queue must be from 0"),
        ("max_queue_mb", 63, "max_queue_mb 63 is less than max_message_mb 64"),
        ("max_in_flight_mb", 1535, "max_in_flight_mb 1535 is less than max_clip_mb 1024 and max_queue_mb 512"),
        ("max_active", -1, "max_active must be from 0"),
        ("max_video_mb", 0, "max_video_mb must be from 1"),
        ("max_pixels", 0, "max_pixels"),
        ("max_frames", 0, "max_frames"),
        ("max_video_seconds", float("nan"), "max_video_seconds"),
        ("max_streams", 0, "max_streams must be from 1 to 100000, got 0"),
        ("decode_worker_memory_mb", 100, r"must be 0 \(no limit\) or at least 384, .*; got 100"),
        ("decode_worker_memory_mb", -1, "decode_worker_memory_mb"),
        ("decode_worker_nice", 20, "decode_worker_nice"),
        ("instances", ("0",), "instances '0' must be COUNT or NAME:COUNT"),
        ("instances", ("moves:many",), "instances 'moves:many' must be"),
        ("max_decode_seconds", 0.0, "max_decode_seconds must be above 0"),
        ("max_request_seconds", float("nan"), "max_request_seconds"),
        ("shutdown_grace_seconds", -1.0, "shutdown_grace_seconds"),
        ("runtime", "tensorflow", "runtime 'tensorflow' is not one of auto, gpu, onnxruntime, openvino"),
        ("log_format", "xml", "log_format 'xml'"),
        ("host", "", "host must not be empty"),
    ],
)
def test_refuses_what_cannot_work(tmp_path: Path, field: str, value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ServerConfig(directory=tmp_path, **{field: value})


def test_instances_of_all_models_and_of_one(tmp_path: Path) -> None:
    assert ServerConfig(directory=tmp_path).instance_counts == {}
    assert ServerConfig(directory=tmp_path, instances=("2", "moves:3")).instance_counts == {"": 2, "moves": 3}


def test_instances_may_not_have_more_threads_than_there_are_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenclip_serving.config.usable_cpus", lambda: 4)
    ServerConfig(directory=tmp_path, instances=("2",), threads=2)
    ServerConfig(directory=tmp_path, threads=8)
    with pytest.raises(ValueError, match="3 instances of 2 threads are more than the 4 cores"):
        ServerConfig(directory=tmp_path, instances=("a:3",), threads=2)


def test_what_works_at_once_follows_the_decoders(tmp_path: Path) -> None:
    assert ServerConfig(directory=tmp_path, decode_workers=1).num_active == 8
    assert ServerConfig(directory=tmp_path, decode_workers=6).num_active == 24
    assert ServerConfig(directory=tmp_path, decode_workers=6, max_active=3).num_active == 3


def test_directories_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a directory; it must hold bundles"):
        ServerConfig(directory=tmp_path / "none")
    with pytest.raises(ValueError, match=r"allowed root .* is not a directory"):
        ServerConfig(directory=tmp_path, allow_roots=(tmp_path / "none",))


def test_describes_every_root(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    config = ServerConfig(directory=tmp_path, allow_roots=(tmp_path, tmp_path / "a"))
    assert f"allow_roots={tmp_path},{tmp_path / 'a'}" in config.describe()


def test_limits_of_videos_and_of_workers(tmp_path: Path) -> None:
    config = ServerConfig(
        directory=tmp_path, max_video_mb=3, max_pixels=4, max_frames=5, max_video_seconds=6.5, max_streams=7
    )
    limits = Limits(max_bytes=3 << 20, max_pixels=4, max_frames=5, max_seconds=6.5, max_streams=7)
    assert config.video_limits == limits
    config = ServerConfig(directory=tmp_path, decode_worker_memory_mb=500, decode_worker_nice=1)
    assert config.sandbox_limits == SandboxLimits(memory_bytes=500 << 20, nice=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"allow_schemes": ("ftp",), "allow_hosts": ("*",)}, "'ftp' is not one of http, https, s3"),
        ({"allow_schemes": ("http",)}, "without allow_hosts"),
        (
            {"allow_hosts": ("media.example",)},
            "allow_hosts without allow_schemes would allow nothing: name schemes, of",
        ),
        ({"allow_networks": ("10.0.0.0/8",)}, "allow_networks without allow_schemes"),
        ({"fetch_proxy": "environment"}, "fetch_proxy without allow_schemes"),
        ({"fetch_proxy": "socks5://proxy:1080"}, "fetch_proxy: names no proxy; write http://"),
        ({"allow_networks": ("10.1.2.3/8",)}, "has host bits set"),
        ({"allow_networks": ("intranet",)}, "write e.g. 10.1.0.0/16"),
        ({"max_upload_mb": 9000}, "max_spool_mb 8192 is less than max_upload_mb 9000"),
        ({"spool_dir": Path("/nowhere")}, "spool_dir /nowhere is not a directory"),
        ({"upload_idle_seconds": 0}, "upload_idle_seconds"),
    ],
)
def test_uploads_and_uris_that_cannot_work(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServerConfig(directory=tmp_path, **fields)


@pytest.mark.parametrize("name", ["http://lab.example", "lab.example:8080", "", "lab.example/ui"])
def test_names_for_browsers_are_names_alone(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="browser_names: host"):
        ServerConfig(directory=tmp_path, browser_names=(name,))


def test_what_may_be_fetched(tmp_path: Path) -> None:
    config = ServerConfig(
        directory=tmp_path, allow_schemes=("https",), allow_hosts=("media.example",), allow_networks=("10.1.0.0/16",)
    )
    policy = config.uri_policy
    assert (policy.schemes, policy.hosts) == (("https",), ("media.example",))
    assert str(policy.networks[0]) == "10.1.0.0/16"
    assert ServerConfig(directory=tmp_path).uri_policy.schemes == ()
