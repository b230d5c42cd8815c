"""Bundles written by hand, one file of each then spoiled: every corruption names the file at fault."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenclip_api.errors import BundleError
from tenclip_video.bundle import (
    Bundle,
    BundleInfo,
    BundleSampler,
    Parity,
    ScoreCalibration,
    Speed,
    Variant,
    read_bundle,
    sha256,
)
from tenclip_video.salience import StoppingRule
from tenclip_video.spec import ClipSpec

CLASSES, FEATURES, SPEC = 3, 5, ClipSpec(num_frames=2, crop=4, fully_convolutional_crop=None)


def write_golden(path: Path, **changes: Any) -> None:
    arrays: dict[str, Any] = {
        "clips": np.zeros((2, 2, 4, 4, 3), np.uint8),
        "logits": np.zeros((2, CLASSES, 1), np.float32),
        "features": np.zeros((2, FEATURES), np.float32),
    }
    arrays.update(changes)
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "action" / "1"
    path.mkdir(parents=True)
    (path / "model.onnx").write_bytes(b"not looked into here")
    (path / "labels.txt").write_text("run\nsit\nvölund\n", encoding="utf-8")
    write_golden(path / "golden.npz")
    info = BundleInfo(
        name="action",
        version="1",
        architecture="r2plus1d_10",
        family="tests",
        clip_spec=SPEC,
        num_classes=CLASSES,
        feature_dim=FEATURES,
        variants=(
            Variant(name="fp32", format="onnx", path="model.onnx", files={"model.onnx": sha256(path / "model.onnx")}),
        ),
        parity=(
            Parity(
                variant="fp32",
                runtime="onnx",
                max_abs=1e-5,
                relative_l2=1e-6,
                features_relative_l2=1e-6,
                top1_agreement=1.0,
                num_clips=2,
                passed=True,
            ),
        ),
        speed=(Speed(variant="fp32", runtime="onnx", machine="m", clips_per_second=3.0, threads=1, batch_size=1),),
        provenance={"weights": "abc"},
    )
    (path / "bundle.json").write_text(json.dumps(info.to_dict()), encoding="utf-8")
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((path / "bundle.json").read_text())
    change(values)
    (path / "bundle.json").write_text(json.dumps(values))


def test_a_whole_bundle(bundle: Path) -> None:
    read = read_bundle(bundle)
    assert isinstance(read, Bundle)
    assert read.labels == ("run", "sit", "völund")
    assert read.info.clip_spec == SPEC
    assert read.info.parity[0].top1_agreement == 1.0
    assert read.info.speed[0].machine == "m"
    assert read.golden.clips.shape == (2, 2, 4, 4, 3)
    assert read.variant("fp32").path == "model.onnx"
    assert BundleInfo.from_dict(json.loads(json.dumps(read.info.to_dict()))) == read.info


def test_an_unknown_variant_names_those_there_are(bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"no variant 'int8'; it has fp32"):
        read_bundle(str(bundle)).variant("int8")


def test_no_bundle_at_all(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle\.json, so this is not a bundle"):
        read_bundle(tmp_path)
    with pytest.raises(BundleError, match=r"no bundle\.json"):
        read_bundle(tmp_path / "missing")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as JSON"),
        (b"{", "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"[1, 2]", "bundle.json"),
        (b"null", "bundle.json"),
        (b"{}", "schema_version None; this version of tenclip reads 1"),
    ],
)
def test_bundle_json_that_is_none(bundle: Path, content: bytes, message: str) -> None:
    (bundle / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle)


def test_bundle_json_that_is_a_directory(bundle: Path) -> None:
    (bundle / "bundle.json").unlink()
    (bundle / "bundle.json").mkdir()
    with pytest.raises(BundleError, match=r"bundle\.json"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(schema_version=2), "schema_version 2"),
        (lambda v: v.pop("clip_spec"), "clip_spec"),
        (lambda v: v.pop("num_classes"), "num_classes"),
        (lambda v: v["clip_spec"].update(crop=0), "crop must be at least 1"),
        (lambda v: v["clip_spec"].update(flip=True), "ClipSpec has no field flip"),
        (lambda v: v.update(name="../up"), "use letters, digits"),
        (lambda v: v.update(version=""), "use letters, digits"),
        (lambda v: v.update(num_classes=-1), "num_classes -1 must be at least 0"),
        (lambda v: v.update(feature_dim=0), "feature_dim 0 at least 1"),
        (lambda v: v.update(num_classes=0), "0 classes and label_source 'file'"),
        (lambda v: v.update(label_source="none"), "3 classes and label_source 'none'"),
        (lambda v: v.update(num_classes=0, label_source="none"), r"labels\.txt: 3 labels for 0 classes"),
        (lambda v: v.update(default_protocol="best"), "default_protocol 'best' is not one of ten-clip"),
        (lambda v: v.update(surprise=1), "surprise"),
        (lambda v: v.update(variants=[]), "lists no variants, so there is nothing to run"),
        (lambda v: v["variants"][0].pop("path"), "path"),
        (lambda v: v["variants"][0].update(files={}), "does not list its own file model.onnx"),
        (lambda v: v["variants"][0]["files"].update({"model.onnx": 5}), r"Variant\.files cannot be {'model.onnx': 5}"),
        (lambda v: v["variants"][0].update(files=[]), r"Variant\.files cannot be \[\]"),
        (lambda v: v["clip_spec"].update(num_frames=2.0), r"ClipSpec\.num_frames cannot be 2\.0, it is a int"),
        (lambda v: v["clip_spec"].update(crop="4"), "not supported between instances of 'str' and 'int'"),
        (lambda v: v["clip_spec"]["resize"].update(height=True), r"Resize\.height cannot be True"),
        (lambda v: v.update(architecture=5), r"BundleInfo\.architecture cannot be 5"),
        (lambda v: v["speed"][0].update(threads="two"), r"Speed\.threads cannot be 'two'"),
        (lambda v: v["variants"][0]["files"].update({"model.onnx": "0" * 64}), "SHA-256 is .* bundle.json says 000000"),
        (lambda v: v["variants"][0]["files"].update({"weights.bin": "0" * 64}), "weights.bin: listed .* not there"),
        (lambda v: v["variants"][0]["files"].update({"../../up": "0" * 64}), "lies outside the bundle"),
        (lambda v: v["variants"][0]["files"].update({"/etc/passwd": "0" * 64}), "lies outside the bundle"),
        (lambda v: v["parity"][0].update(surprise=1), "surprise"),
        (lambda v: v.update(tolerance={"logits": 1, "x": 2}), "'x'"),
        (lambda v: v.update(num_classes=4), r"labels\.txt: 3 labels for 4 classes"),
        (lambda v: v.update(feature_dim=6), r"golden\.npz: .* do not fit 2 frames, 3 classes and 6 features"),
        (lambda v: v["clip_spec"].update(num_frames=3), r"golden\.npz: .* do not fit 3 frames"),
    ],
)
def test_bundle_json_that_is_wrong(bundle: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    edit(bundle, change)
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle)


def test_a_changed_model_is_noticed(bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"something else")
    with pytest.raises(BundleError, match=r"model\.onnx: SHA-256"):
        read_bundle(bundle)
    assert read_bundle(bundle, verify_hashes=False).info.name == "action"


def test_a_missing_model_is_noticed_without_hashes_too(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx: listed in bundle\.json and not there"):
        read_bundle(bundle, verify_hashes=False)


def test_a_link_out_of_the_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.onnx"
    outside.write_bytes((bundle / "model.onnx").read_bytes())
    (bundle / "model.onnx").unlink()
    (bundle / "model.onnx").symlink_to(outside)
    with pytest.raises(BundleError, match="lies outside the bundle"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"labels\.txt"),
        (b"run\nsit\n", "2 labels for 3 classes"),
        (b"run\nsit\nwalk\n\n", "4 labels for 3 classes"),
        (b"\xff\xfe\nb\nc\n", r"labels\.txt"),
    ],
)
def test_labels_that_do_not_fit(bundle: Path, content: bytes | None, message: str) -> None:
    (bundle / "labels.txt").unlink()
    if content is not None:
        (bundle / "labels.txt").write_bytes(content)
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle)


@pytest.mark.parametrize(
    "changes",
    [
        {"clips": np.zeros((2, 2, 4, 4, 3), np.float32)},
        {"clips": np.zeros((2, 2, 4, 4, 4), np.uint8)},
        {"clips": np.zeros((2, 3, 2, 4, 4), np.uint8)},
        {"clips": np.zeros((2, 2, 4, 3), np.uint8)},
        {"clips": np.zeros((0, 2, 4, 4, 3), np.uint8)},
        {"clips": np.zeros((2, 2, 0, 4, 3), np.uint8)},
        {"clips": np.uint8(3)},
        {"logits": np.zeros((3, CLASSES, 1), np.float32)},
        {"logits": np.zeros((2, CLASSES), np.float32)},
        {"logits": np.zeros((2, CLASSES, 1), np.float64)},
        {"features": np.zeros((2, FEATURES + 1), np.float32)},
        {"features": np.zeros((2, FEATURES), np.int64)},
    ],
    ids=lambda changes: " ".join(f"{k} {np.asarray(v).dtype} {np.shape(v)}" for k, v in changes.items()),
)
def test_golden_arrays_that_do_not_fit(bundle: Path, changes: dict[str, Any]) -> None:
    write_golden(bundle / "golden.npz", **changes)
    with pytest.raises(BundleError, match=r"golden\.npz: clips .* do not fit 2 frames, 3 classes and 5 features"):
        read_bundle(bundle)


def test_golden_arrays_that_are_missing(bundle: Path) -> None:
    write_golden(bundle / "golden.npz", features=None)
    with pytest.raises(BundleError, match=r"golden\.npz.*features"):
        read_bundle(bundle)
    (bundle / "golden.npz").unlink()
    with pytest.raises(BundleError, match=r"golden\.npz"):
        read_bundle(bundle)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", b"PK\x05\x06" + b"\0" * 18])
def test_golden_files_that_are_none(bundle: Path, content: bytes) -> None:
    (bundle / "golden.npz").write_bytes(content)
    with pytest.raises(BundleError, match=r"golden\.npz"):
        read_bundle(bundle)


def test_a_single_array_is_no_golden_file(bundle: Path) -> None:
    with (bundle / "golden.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(BundleError, match=r"golden\.npz"):
        read_bundle(bundle)


def test_golden_files_never_run_code(bundle: Path) -> None:
    np.savez(bundle / "golden.npz", clips=np.array([{"a": 1}], object), logits=0, features=0)
    with pytest.raises(BundleError, match=r"golden\.npz.*allow_pickle=False"):
        read_bundle(bundle)


def test_a_damaged_archive_is_noticed(bundle: Path) -> None:
    file = bundle / "golden.npz"
    arrays = dict(np.load(file))
    np.savez_compressed(file, **arrays)
    with zipfile.ZipFile(file) as archive:
        start = archive.getinfo("clips.npy").header_offset + 60
    data = bytearray(file.read_bytes())
    data[start : start + 8] = b"\xff" * 8
    file.write_bytes(data)
    with pytest.raises(BundleError, match=r"golden\.npz"):
        read_bundle(bundle)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.data())
def test_any_value_in_any_place_is_read_or_refused(bundle: Path, data: st.DataObject) -> None:
    """One value of bundle.json, however deep, is replaced by anything that JSON can say."""
    file = bundle / "bundle.json"
    original = file.read_text()
    values = copy.deepcopy(json.loads(original))
    node = values
    while True:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else list(range(len(node)))))
        child = node[key]
        if not child or not isinstance(child, dict | list) or data.draw(st.booleans()):
            break
        node = child
    node[key] = data.draw(JSON)
    try:
        file.write_text(json.dumps(values))
        read_bundle(bundle)
    except BundleError as err:
        assert str(bundle) in err.message  # noqa: PT017 - either outcome is right
    finally:
        file.write_text(original)


@pytest.fixture
def with_samplers(bundle: Path) -> Path:
    """The bundle with a sampler that looks and one that listens."""
    for name in ("salience.onnx", "sound.onnx"):
        (bundle / name).write_bytes(name.encode())
    sampler = BundleSampler(
        audio_path="sound.onnx",
        audio_clips=3,
        files={name: sha256(bundle / name) for name in ("salience.onnx", "sound.onnx")},
        stopping=StoppingRule(
            threshold=0.4, error_bound=0.05, confidence=0.95, num_videos=80, num_different=1, mean_clips=2.5
        ),
        other_stopping=(
            StoppingRule(threshold=0.2, error_bound=0.2, confidence=0.95, num_videos=80, num_different=9, mean_clips=1),
            StoppingRule(
                threshold=0.9, error_bound=0.02, confidence=0.95, num_videos=80, num_different=0, mean_clips=9
            ),
        ),
    )
    calibration = ScoreCalibration(temperature=2.0, protocol="ten-clip", num_videos=9, ece_before=0.2, ece_after=0.1)
    edit(bundle, lambda v: v.update(sampler=asdict(sampler), calibration=asdict(calibration)))
    return bundle


def test_samplers_of_a_bundle(with_samplers: Path, tmp_path: Path) -> None:
    read = read_bundle(with_samplers)
    assert read.sampler_files == (with_samplers / "salience.onnx", with_samplers / "sound.onnx")
    assert BundleInfo.from_dict(json.loads(json.dumps(read.info.to_dict()))) == read.info
    assert read.info.sampler is not None
    assert [rule.error_bound for rule in read.info.sampler.rules] == [0.02, 0.05, 0.2]
    edit(with_samplers, lambda v: v["sampler"].pop("other_stopping"))  # as bundles were before
    earlier = read_bundle(with_samplers).info.sampler
    assert earlier is not None
    assert earlier.rules == (read.info.sampler.stopping,)
    edit(with_samplers, lambda v: v.update(sampler=None))
    assert read_bundle(with_samplers).sampler_files == ()


@pytest.mark.parametrize("name", ["salience.onnx", "sound.onnx"])
def test_a_sampler_that_is_not_what_bundle_json_says(with_samplers: Path, name: str) -> None:
    (with_samplers / name).write_bytes(b"another one")
    with pytest.raises(BundleError, match=rf"{name}: SHA-256 is \w+\.\.\., bundle\.json says"):
        read_bundle(with_samplers)
    read_bundle(with_samplers, verify_hashes=False)
    (with_samplers / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: listed in bundle.json and not there"):
        read_bundle(with_samplers, verify_hashes=False)


@pytest.mark.parametrize("name", ["salience.onnx", "sound.onnx"])
def test_a_sampler_that_is_not_listed(with_samplers: Path, name: str) -> None:
    edit(with_samplers, lambda v: v["sampler"]["files"].pop(name))
    with pytest.raises(BundleError, match=f"bundle.json: sampler does not list its own file {name}"):
        read_bundle(with_samplers)


def test_a_sampler_outside_the_bundle(with_samplers: Path) -> None:
    outside = with_samplers.parent / "salience.onnx"
    outside.write_bytes(b"of another bundle")
    change = {"path": "../salience.onnx", "files": {"../salience.onnx": sha256(outside)}, "audio_path": None}
    edit(with_samplers, lambda v: v["sampler"].update(change))
    with pytest.raises(BundleError, match=r"\.\./salience\.onnx lies outside the bundle"):
        read_bundle(with_samplers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": 3}, "path"),
        ({"audio_clips": "three"}, "audio_clips"),
        ({"stopping": {"threshold": "high"}}, "missing 5 required"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
def test_a_description_of_samplers_that_is_none(with_samplers: Path, change: dict[str, Any], message: str) -> None:
    edit(with_samplers, lambda v: v["sampler"].update(change))
    with pytest.raises(BundleError, match=message):
        read_bundle(with_samplers)
