"""The sampler of a bundle when the bundle is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenclip_api.errors import BundleError
from tenclip_serving.models.repository import FailedBundle, fingerprint, load_bundle, load_model
from tenclip_serving.models.samplers import load_served_sampler
from tenclip_serving.runtimes import create_runtime
from tenclip_video.bundle import read_bundle, sha256
from tenclip_video.salience import default_spec
from tests.samplers import make_sampler
from tests.tenclip_serving.helpers import RULE, SAMPLER_SPEC, SPEC, Sampler, make_bundle, write_sampler


def test_a_bundle_is_served_with_its_sampler(tmp_path: Path) -> None:
    model = load_model(make_bundle(tmp_path, sampler=Sampler(stopping=RULE)), runtime="onnxruntime")
    sampler = model.sampler
    assert sampler is not None
    assert (sampler.spec, sampler.stopping, sampler.audio_clips) == (SAMPLER_SPEC, RULE, 0)
    windows = np.zeros((3, *SAMPLER_SPEC.input_shape), np.uint8)
    windows[1, ..., 2] = 200
    assert sampler.scorer.picture.scores(windows).tolist() == [0.0, 200.0, 0.0]


def with_a_listener(path: Path) -> None:
    """Add a sampler of sound to the bundle, for two of the clips."""
    (path / "salience-audio.onnx").write_bytes(make_sampler(default_spec("audio", SPEC)))
    described(path, audio_path="salience-audio.onnx", audio_clips=2)


def test_a_bundle_with_two_samplers(tmp_path: Path) -> None:
    path = make_bundle(tmp_path, sampler=Sampler())
    with_a_listener(path)
    sampler = load_model(path, runtime="onnxruntime").sampler
    assert sampler is not None
    assert (sampler.audio_clips, sampler.spec, sampler.scorer.name) == (2, SAMPLER_SPEC, "colours + audio")
    (path / "salience-audio.onnx").write_bytes(b"no network")
    with pytest.raises(BundleError, match=r"salience-audio\.onnx"):
        load_model(path, runtime="onnxruntime")


def test_a_bundle_without_one(tmp_path: Path) -> None:
    assert load_model(make_bundle(tmp_path), runtime="onnxruntime").sampler is None


def described(path: Path, **changes: Any) -> None:
    """Change what bundle.json says of the sampler; its hash is brought up to date."""
    text = json.loads((path / "bundle.json").read_text())
    files = {file.name: sha256(file) for file in path.glob("salience*.onnx")}
    text["sampler"] = {**text["sampler"], "files": files, **changes}
    (path / "bundle.json").write_text(json.dumps(text))


def garbage(path: Path) -> None:
    (path / "salience.onnx").write_bytes(b"no network")
    described(path)


def the_network_itself(path: Path) -> None:
    (path / "salience.onnx").write_bytes((path / "model.onnx").read_bytes())
    described(path)


def for_longer_clips(path: Path) -> None:
    write_sampler(path / "salience.onnx", Sampler(spec=replace(SAMPLER_SPEC, clip_span=16)))
    described(path)


def no_numbers(path: Path) -> None:
    write_sampler(path / "salience.onnx", Sampler(bias=float("nan")))
    described(path)


def another_file(path: Path) -> None:
    write_sampler(path / "salience.onnx", Sampler(weights=(0.0, 1.0, 0.0)))


def gone(path: Path) -> None:
    (path / "salience.onnx").unlink()


def unlisted(path: Path) -> None:
    described(path, files={})


def a_listener_that_looks(path: Path) -> None:
    described(path, audio_path="salience.onnx", audio_clips=2)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (garbage, r"salience\.onnx: is no ONNX file that ONNX Runtime reads"),
        (the_network_itself, r"salience\.onnx: is no sampler: its metadata have no tenclip\.sampler"),
        (
            for_longer_clips,
            r"salience\.onnx: this sampler was trained for clips of 16 frames .* takes clips of 4 frames",
        ),
        (no_numbers, r"salience\.onnx: the sampler gives \[nan, nan\] for black windows"),
        (another_file, r"salience\.onnx: SHA-256 is .*bundle\.json says"),
        (gone, r"salience\.onnx: "),
        (unlisted, r"salience\.onnx"),
        (a_listener_that_looks, r"salience\.onnx: this sampler looks \(rgb\); its kind must be audio"),
    ],
)
def test_a_sampler_that_does_not_work_fails_its_bundle(
    tmp_path: Path, spoil: Callable[[Path], None], says: str
) -> None:
    path = make_bundle(tmp_path, sampler=Sampler())
    spoil(path)
    with pytest.raises(BundleError, match=says):
        load_model(path, runtime="onnxruntime")
    failed = load_bundle(path, create=create_runtime)
    assert isinstance(failed, FailedBundle)
    assert "salience.onnx" in failed.error


def test_the_bytes_that_are_used_are_those_that_were_checked(tmp_path: Path) -> None:
    bundle = read_bundle(make_bundle(tmp_path, sampler=Sampler()))
    another_file(bundle.path)
    with pytest.raises(BundleError, match=r"SHA-256 is \w+\.\.\., bundle\.json says \w+\.\.\."):
        load_served_sampler(bundle)


def test_another_sampler_is_another_fingerprint(tmp_path: Path) -> None:
    path = make_bundle(tmp_path, sampler=Sampler())
    before = fingerprint(path)
    write_sampler(path / "salience.onnx", Sampler(weights=(0.0, 1.0, 0.0)))
    assert fingerprint(path) != before


def test_a_sampler_for_the_models_own_span(tmp_path: Path) -> None:
    path = make_bundle(
        tmp_path,
        spec=replace(SPEC, frame_stride=2),
        sampler=Sampler(spec=replace(SAMPLER_SPEC, clip_span=7)),
    )
    assert load_model(path, runtime="onnxruntime").sampler is not None
