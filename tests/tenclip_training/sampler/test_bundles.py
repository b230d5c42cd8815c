"""Samplers into bundles: what comes along, what does not fit, and that a reader never sees half of it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenclip_api.errors import BundleError, InvalidRequest
from tenclip_training.sampler import bundles
from tenclip_training.sampler.bundles import add_sampler
from tenclip_training.sampler.export import export_sampler
from tenclip_training.sampler.identity import identity_of
from tenclip_training.sampler.networks import Salience, SamplerNet
from tenclip_training.sampler.results import SamplerResult
from tenclip_video.bundle import ScoreCalibration, read_bundle, sha256
from tenclip_video.salience import SamplerKind, StoppingRule, default_spec
from tenclip_video.spec import ClipSpec
from tests.samplers import make_sampler
from tests.tenclip_serving.helpers import SPEC, make_bundle

STOPPING = StoppingRule(
    threshold=0.4, error_bound=0.05, confidence=0.95, num_videos=80, num_different=0, mean_clips=2.5, max_clips=10
)
LOOSER = dataclasses.replace(STOPPING, threshold=0.2, error_bound=0.2, mean_clips=1.5)
CALIBRATION = ScoreCalibration(temperature=1.5, protocol="salient-clips", num_videos=40, ece_before=0.1, ece_after=0.05)


def write_exported(path: Path) -> Path:
    made = default_spec("rgb", SPEC, loss="rank")
    torch.manual_seed(0)
    network = SamplerNet(made, 1, np.zeros(made.channels, np.float32), np.ones(made.channels, np.float32))
    export_sampler(Salience(network, "rank"), made, path)
    return path


def write_sampler(path: Path, kind: SamplerKind = "rgb", *, spec: ClipSpec = SPEC) -> Path:
    path.write_bytes(make_sampler(default_spec(kind, spec, loss="rank")))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Samplers: two that look, of which torch has written the first, one that listens, one for clips of 7 frames."""
    folder = tmp_path_factory.mktemp("samplers")
    longer = dataclasses.replace(SPEC, num_frames=7)
    return {
        "first": write_exported(folder / "first.onnx"),
        "second": write_sampler(folder / "second.onnx"),
        "sound": write_sampler(folder / "sound.onnx", "audio"),
        "longer": write_sampler(folder / "longer.onnx", spec=longer),
    }


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "models", "colors")


def run_folder(folder: Path, file: Path, identity: str, **values: Any) -> Path:
    """What tenclip train-sampler leaves, as far as it is read."""
    folder.mkdir()
    shutil.copy(file, folder / "salience.onnx")
    given = {"stopping": STOPPING, "other_stopping": (LOOSER,), "calibration": CALIBRATION, **values}
    SamplerResult(file="salience.onnx", teacher="teacher", teacher_identity=identity, **given).write(folder)
    return folder


@pytest.fixture
def run(bundle: Path, files: dict[str, Path], tmp_path: Path) -> Path:
    """Of a run whose teacher is `bundle`."""
    return run_folder(tmp_path / "run", files["first"], identity_of(read_bundle(bundle).info))


def test_a_run_gives_its_bundle_all_that_it_made(bundle: Path, run: Path, files: dict[str, Path]) -> None:
    added = add_sampler(bundle, run)
    info = read_bundle(bundle).info
    assert added.notes == ()
    assert added.bundle.info == info
    assert info.sampler is not None
    assert info.sampler.files == {"salience.onnx": sha256(files["first"])}
    assert info.sampler.stopping == STOPPING
    assert info.sampler.other_stopping == (LOOSER,)
    assert info.calibration == CALIBRATION
    assert info.default_protocol == "salient-clips"
    assert read_bundle(bundle).sampler_files == (bundle / "salience.onnx",)
    again = add_sampler(bundle, run)
    assert again.bundle.info == info
    assert {p.name for p in bundle.iterdir()} == {
        "bundle.json", "golden.npz", "labels.txt", "model.onnx", "salience.onnx"
    }  # fmt: skip


def test_the_default_protocol_stays_where_that_is_asked_for(bundle: Path, run: Path) -> None:
    assert add_sampler(bundle, run, keep_default_protocol=True).bundle.info.default_protocol == "ten-clip"


def test_sigmoids_keep_their_protocol(bundle: Path, files: dict[str, Path]) -> None:
    values = json.loads((bundle / "bundle.json").read_text())
    values["provenance"] = {"config": {"objective": {"loss": "sigmoid"}}}
    (bundle / "bundle.json").write_text(json.dumps(values))
    added = add_sampler(bundle, files["first"])
    assert added.bundle.info.default_protocol == "ten-clip"
    assert "by a sigmoid, so its default protocol stays ten-clip" in added.notes[-1]


def test_what_holds_for_another_network_stays_behind(bundle: Path, files: dict[str, Path], tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", files["first"], "other 123")
    added = add_sampler(bundle, folder)
    assert added.bundle.info.sampler is not None
    assert added.bundle.info.sampler.rules == ()
    assert added.bundle.info.calibration is None
    assert added.notes == (
        "the sampler learned from another network (teacher); its stopping rules and temperature hold for that one "
        "alone, and stay there",
    )


def test_reasons_why_there_is_no_rule_are_told(bundle: Path, files: dict[str, Path], tmp_path: Path) -> None:
    identity = identity_of(read_bundle(bundle).info)
    values = {
        "stopping": None,
        "other_stopping": (),
        "stopping_refused": "8 are too few",
        "calibration": None,
        "calibration_refused": "why",
    }
    added = add_sampler(bundle, run_folder(tmp_path / "run", files["first"], identity, **values))
    assert added.notes == ("no stopping rule: 8 are too few", "no temperature: why")
    some = run_folder(tmp_path / "some", files["first"], identity, stopping_refused="8 are too few")
    assert add_sampler(bundle, some).notes == ("no stopping rule for some error bounds: 8 are too few",)


def test_a_folder_of_before_there_were_several_rules(bundle: Path, run: Path) -> None:
    file = run / "sampler.json"
    values = json.loads(file.read_text())
    del values["other_stopping"]
    file.write_text(json.dumps(values))
    assert SamplerResult.read(run).rules == (STOPPING,)
    sampler = add_sampler(bundle, run).bundle.info.sampler
    assert sampler is not None
    assert sampler.rules == (STOPPING,)
    for what in ([1], "none", None, [{"threshold": 0.1}]):
        file.write_text(json.dumps({**values, "other_stopping": what}))
        with pytest.raises(BundleError, match=r"sampler\.json"):
            SamplerResult.read(run)


def test_from_another_bundle_comes_the_sampler_alone(bundle: Path, run: Path, tmp_path: Path) -> None:
    add_sampler(bundle, run)
    other = make_bundle(tmp_path / "models", "others")
    added = add_sampler(other, bundle)
    assert added.bundle.info.sampler is not None
    assert read_bundle(bundle).info.sampler is not None
    assert added.bundle.info.sampler.files == read_bundle(bundle).info.sampler.files  # type: ignore[union-attr]
    assert added.bundle.info.sampler.rules == ()
    with pytest.raises(BundleError, match="this bundle has no sampler"):
        add_sampler(bundle, make_bundle(tmp_path / "models", "third"))


def test_a_sampler_that_listens_beside_it(bundle: Path, run: Path, files: dict[str, Path], tmp_path: Path) -> None:
    added = add_sampler(bundle, run, audio=files["sound"], audio_clips=3)
    sampler = added.bundle.info.sampler
    assert sampler is not None
    assert (sampler.path, sampler.audio_path, sampler.audio_clips) == ("salience.onnx", "salience-audio.onnx", 3)
    assert added.bundle.sampler_files == (bundle / "salience.onnx", bundle / "salience-audio.onnx")
    assert sampler.rules == ()
    assert "no longer hold: left out" in added.notes[-1]
    other = make_bundle(tmp_path / "models", "others")
    assert add_sampler(other, bundle).bundle.info.sampler == sampler, "both come from a bundle that has both"
    alone = add_sampler(bundle, files["first"])
    assert alone.bundle.info.sampler is not None
    assert alone.bundle.info.sampler.audio_path is None
    assert not (bundle / "salience-audio.onnx").exists()


@pytest.mark.parametrize(
    ("sampler", "options", "error", "message"),
    [
        ("longer", {}, BundleError, "trained for clips of 7 frames .* the model takes clips of 4 frames"),
        ("sound", {}, BundleError, "this sampler listens; one that looks is needed"),
        ("first", {"audio_clips": 3}, InvalidRequest, "--audio-clips 3: there is no sampler that listens"),
        ("first", {"audio": "sound"}, InvalidRequest, "needs --audio-clips"),
        ("first", {"audio": "second", "audio_clips": 1}, BundleError, "its kind must be audio"),
    ],
)
def test_samplers_that_do_not_fit_change_nothing(
    bundle: Path, files: dict[str, Path], sampler: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    before = {p.name: p.read_bytes() for p in bundle.iterdir()}
    given: dict[str, Any] = {k: files[v] if k == "audio" else v for k, v in options.items()}
    with pytest.raises(error, match=message):
        add_sampler(bundle, files[sampler], **given)
    assert {p.name: p.read_bytes() for p in bundle.iterdir()} == before


def test_what_is_no_sampler(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no sampler\.json, so this is not a folder of tenclip train-sampler"):
        add_sampler(bundle, tmp_path)
    with pytest.raises(BundleError, match=r"model\.onnx: is no sampler"):
        add_sampler(bundle, bundle / "model.onnx")
    (tmp_path / "sampler.json").write_text('{"schema_version": 9}')
    with pytest.raises(BundleError, match=r"sampler\.json: schema_version 9"):
        add_sampler(bundle, tmp_path)
    (tmp_path / "sampler.json").write_text("[]")
    with pytest.raises(BundleError, match=r"sampler\.json"):
        add_sampler(bundle, tmp_path)
    SamplerResult(file="gone.onnx", teacher="t", teacher_identity="t").write(tmp_path)
    with pytest.raises(BundleError, match=r"gone\.onnx: cannot be read: No such file"):
        add_sampler(bundle, tmp_path)


def test_a_copy_leaves_the_bundle_as_it_is(bundle: Path, run: Path) -> None:
    before = (bundle / "bundle.json").read_bytes()
    copied = add_sampler(bundle, run, out=bundle.parent.parent / "salient" / "7").bundle
    assert (bundle / "bundle.json").read_bytes() == before
    assert (copied.info.name, copied.info.version) == ("salient", "7")
    assert copied.info.sampler is not None
    assert [p.name for p in copied.path.parent.iterdir()] == ["7"]
    with pytest.raises(BundleError, match="exists; name another folder"):
        add_sampler(bundle, run, out=copied.path)
    with pytest.raises(BundleError, match="a bundle's folder is NAME/VERSION"):
        add_sampler(bundle, run, out=bundle.parent.parent / "a b" / "1")


def test_a_failure_between_the_files_leaves_a_whole_bundle(
    bundle: Path, run: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when bundle.json is written: the bundle is read with the sampler that it had."""
    add_sampler(bundle, run)
    before = read_bundle(bundle).info

    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(bundles, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            add_sampler(bundle, files["second"])
        with pytest.raises(BundleError, match="No space left"):
            add_sampler(bundle, files["second"], out=bundle.parent / "2")
    assert read_bundle(bundle).info == before
    assert [p.name for p in bundle.parent.iterdir()] == ["1"]
    added = add_sampler(bundle, files["second"])
    (name,) = added.bundle.info.sampler.files  # type: ignore[union-attr]
    assert sorted(p.name for p in bundle.glob("salience*")) == [name], "the sampler before it is gone"


def test_a_bundle_without_a_classifier(bundle: Path, files: dict[str, Path]) -> None:
    values = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**values, "num_classes": 0, "label_source": "none"}))
    (bundle / "labels.txt").write_text("")
    with np.load(bundle / "golden.npz") as golden:
        arrays = dict(golden)
    arrays["logits"] = arrays["logits"][:, :0]
    np.savez(bundle / "golden.npz", **arrays)
    with pytest.raises(BundleError, match="has no classifier, so there is nothing to predict"):
        add_sampler(bundle, files["first"])
