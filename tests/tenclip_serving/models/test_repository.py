from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import (
    BundleError,
    InvalidRequest,
    MissingDependency,
    ModelError,
    ModelNotFound,
    ParityError,
    VersionNotFound,
)
from tenclip_serving.api.health import NOT_SERVING, SERVING, statuses
from tenclip_serving.models import repository as repository_module
from tenclip_serving.models.directory import FoundBundles, find_bundles
from tenclip_serving.models.repository import (
    Repository,
    choose_candidate,
    load_model,
    load_repository,
    rank_candidates,
    version_key,
)
from tenclip_serving.runtimes import Runtime, create_runtime, cuda
from tenclip_video.bundle import Parity, Speed, Variant, read_bundle
from tests.tenclip_serving.helpers import denied, make_bundle, stopped_by_permissions
from tests.tenclip_serving.models.test_golden_replay import Spoiled


def speed(runtime: str, clips_per_second: float, variant: str = "fp32") -> Speed:
    return Speed(
        variant=variant,
        runtime=runtime,
        machine="2 x86 cores",
        clips_per_second=clips_per_second,
        threads=2,
        batch_size=1,
    )


@pytest.fixture(scope="module")
def repository(models: Path) -> Repository:
    return load_repository(models)


def test_good_ones_are_served_and_bad_ones_are_kept_with_their_errors(repository: Repository) -> None:
    assert [(m.name, m.version) for m in repository] == [
        ("pooled", "1"),
        ("strided", "1"),
        ("tiny", "10"),
        ("tiny", "2"),
    ]
    failures = {(f.name, f.version): f.error for f in repository.failed}
    assert set(failures) == {("broken", "1"), ("drifted", "1"), ("tiny", "11")}
    assert "SHA-256" in failures["broken", "1"]
    assert "drifts from golden.npz" in failures["drifted", "1"]


def test_default_version_is_the_highest_that_is_served(repository: Repository) -> None:
    assert repository.default_version("tiny") == "10"
    assert repository.get("tiny").version == "10"
    assert repository.get("tiny", "2").version == "2"


def test_what_is_not_there_lists_what_is(repository: Repository) -> None:
    with pytest.raises(ModelNotFound, match="no model 'huge'; this server holds pooled, strided, tiny"):
        repository.get("huge")
    with pytest.raises(VersionNotFound, match="'tiny' has no version '3'; it has 2, 10"):
        repository.get("tiny", "3")
    with pytest.raises(InvalidRequest, match="name a model: this server holds pooled, strided, tiny"):
        repository.get()


def test_a_failed_bundle_says_why_when_it_is_asked_for(repository: Repository) -> None:
    with pytest.raises(ModelError, match=r"'drifted' version '1' could not be loaded: .*drifts"):
        repository.get("drifted")
    with pytest.raises(ModelError, match="'tiny' version '11' could not be loaded"):
        repository.get("tiny", "11")


def test_the_only_model_needs_no_name(tmp_path: Path) -> None:
    make_bundle(tmp_path, "only", "3")
    assert load_repository(tmp_path).get().name == "only"


def test_an_empty_repository(tmp_path: Path) -> None:
    empty = load_repository(tmp_path)
    assert len(empty) == 0
    with pytest.raises(ModelNotFound, match="this server holds no models"):
        empty.get()
    with pytest.raises(ModelNotFound, match="no model 'x'; this server holds no models"):
        empty.get("x")


def test_only_directories_with_a_bundles_names_are_looked_at(tmp_path: Path) -> None:
    for path in ("a/1", "a/.tmp-2", ".hidden/1", "b", "lost+found/1"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "a" / "notes.txt").touch()
    (tmp_path / "README.md").touch()
    assert find_bundles(tmp_path) == FoundBundles(bundles={("a", "1"): tmp_path / "a" / "1"}, unreadable={})
    (failure,) = load_repository(tmp_path).failed
    assert "no bundle.json" in failure.error


def test_directories_that_nobody_lets_us_read_leave_the_others_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path
    with stopped_by_permissions():
        for name in ("good", "closed", "spool", "half"):
            make_bundle(root, name)
        for name in (".snapshot", "lost+found"):
            (root / name).mkdir()
        closed = ("closed/1", "spool", ".snapshot", "lost+found", "half/1/golden.npz", "half/1/bundle.json")
        with denied(*(root / path for path in closed)):
            repository = load_repository(root, runtime="onnxruntime", threads=1)
    assert [m.name for m in repository] == ["good"]
    assert {(f.name, f.version): f.error for f in repository.failed} == {
        ("closed", "1"): f"{root / 'closed' / '1' / 'bundle.json'}: cannot be read: Permission denied",
        ("half", "1"): f"{root / 'half' / '1' / 'bundle.json'}: cannot be read: Permission denied",
        ("spool", ""): f"{root / 'spool'}: cannot be read: Permission denied",
    }
    said = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert said == [f"bundle not served: {f.error}" for f in repository.failed]
    for version in ("", "7"):
        with pytest.raises(ModelError, match=r"model 'spool' could not be loaded: .*Permission denied"):
            repository.get("spool", version)
    health = statuses(repository, ())
    assert health["good"] == SERVING
    assert health["spool"] == health["closed/1"] == NOT_SERVING
    assert "spool/" not in health


def test_a_models_folder_that_cannot_be_read_is_an_error_of_its_own(tmp_path: Path) -> None:
    with stopped_by_permissions(), denied(tmp_path), pytest.raises(PermissionError):
        load_repository(tmp_path)


def test_a_renamed_directory_is_refused(tmp_path: Path) -> None:
    shutil.move(make_bundle(tmp_path, "tiny", "1"), tmp_path / "tiny" / "2")
    with pytest.raises(BundleError, match=r"bundle\.json says tiny/1; rename the directory"):
        load_model(tmp_path / "tiny" / "2")


def test_version_order() -> None:
    versions = ["1", "2", "10", "1.9", "1.10", "2024-01-02", "2024-01-10"]
    assert sorted(versions, key=version_key) == ["1", "1.9", "1.10", "2", "10", "2024-01-02", "2024-01-10"]


@given(versions=st.lists(st.text("019ab.-_", min_size=1, max_size=8)))
def test_every_version_can_be_ordered(versions: list[str]) -> None:
    ordered = sorted(versions, key=version_key)
    assert all(version_key(a) <= version_key(b) for a, b in itertools.pairwise(ordered))


def test_auto_prefers_openvino_and_says_so(models: Path) -> None:
    model = load_model(models / "tiny" / "2")
    assert model.runtime.name == "openvino"
    assert model.runtime_reason == "preferred; the bundle has no measured speeds"


def test_auto_takes_the_fastest_measured(tmp_path: Path) -> None:
    path = make_bundle(tmp_path, speed=(speed("openvino", 1.5), speed("onnxruntime", 2.25), speed("torch", 9.0)))
    model = load_model(path)
    assert model.runtime.name == "onnxruntime"
    assert model.runtime_reason == "the fastest measured at export: 2.25 clips/s on 2 x86 cores"


def test_asked_for(models: Path) -> None:
    model = load_model(models / "tiny" / "2", runtime="onnxruntime")
    assert (model.runtime.name, model.runtime_reason) == ("onnxruntime", "asked for")


def drifting_openvino(name: str, path: Path, *, threads: int = 0) -> Runtime:
    return Spoiled("nan") if name == "openvino" else create_runtime(name, path, threads=threads)


def test_auto_falls_back_when_the_first_one_drifts(models: Path) -> None:
    model = load_model(models / "tiny" / "2", create=drifting_openvino)
    assert model.runtime.name == "onnxruntime"
    assert model.runtime_reason.startswith("the first that works; openvino (fp32): drifts")
    with pytest.raises(ParityError):
        load_model(models / "tiny" / "2", runtime="openvino", create=drifting_openvino)


def test_a_runtime_that_raises_is_the_bundles_failure(models: Path) -> None:
    class Raising:
        name = "raising"
        batch_size = 1

        def run(self, clips: Any) -> Any:
            raise RuntimeError("kernel says no")

    with pytest.raises(BundleError, match="raising fails on its golden clips: kernel says no"):
        load_model(models / "tiny" / "2", create=lambda *args, **options: Raising())


def test_unserved_formats(tmp_path: Path) -> None:
    path = make_bundle(tmp_path)
    info = json.loads((path / "bundle.json").read_text())
    info["variants"][0]["format"] = "tensorrt"
    (path / "bundle.json").write_text(json.dumps(info))
    with pytest.raises(BundleError, match=r"nothing here executes its variants \(formats: tensorrt"):
        load_model(path)


def test_candidates(models: Path) -> None:
    bundle = read_bundle(models / "tiny" / "2")
    fp32 = bundle.info.variants[0]
    ir = Variant(name="fp32", format="openvino", path="openvino/model.xml")
    half = Variant(name="fp16", format="onnx", path="model.fp16.onnx")

    def ranked(**changes: Any) -> list[tuple[str, str, str]]:
        changed = replace(bundle, info=replace(bundle.info, **changes))
        found = rank_candidates(changed, ("openvino", "onnxruntime"))
        return [(c.runtime, c.variant.name, c.variant.format) for c in found]

    # OpenVINO's own format first; reduced precision not at all, unless it was measured.
    assert ranked(variants=(half, fp32, ir)) == [
        ("openvino", "fp32", "openvino"),
        ("openvino", "fp32", "onnx"),
        ("onnxruntime", "fp32", "onnx"),
    ]
    assert ranked(variants=(fp32, half), speed=(speed("onnxruntime", 5, "fp16"), speed("openvino", 4)))[:2] == [
        ("onnxruntime", "fp16", "onnx"),
        ("openvino", "fp32", "onnx"),
    ]
    failed = Parity(
        variant="fp32",
        runtime="openvino",
        max_abs=1,
        relative_l2=1,
        features_relative_l2=1,
        top1_agreement=0,
        num_clips=2,
        passed=False,
    )
    assert ranked(parity=(failed,)) == [("onnxruntime", "fp32", "onnx")]
    # A bundle that has nothing but a reduced variant is served with that.
    assert ranked(variants=(half,)) == [("openvino", "fp16", "onnx"), ("onnxruntime", "fp16", "onnx")]


def test_hints_at_the_wrong_directory(models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_repository(models / "tiny")
    load_repository(tmp_path, name="moves")
    assert "holds the versions of one model; serve its parent directory, or say its name (--name)" in caplog.text
    assert f"{tmp_path} holds neither bundle.json nor VERSION/bundle.json, one of which the name 'moves' is for" in (
        caplog.text
    )


def test_gpu_means_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a node with a GPU that cannot be used the server is up, is not ready, and says why."""
    monkeypatch.setattr(cuda, "gpu_name", lambda: None)
    make_bundle(tmp_path)
    assert statuses(load_repository(tmp_path), ("a.Service",))["a.Service"] == SERVING
    repository = load_repository(tmp_path, runtime="gpu")
    assert statuses(repository, ("a.Service",))["a.Service"] == NOT_SERVING
    (failed,) = repository.failed
    assert failed.error.startswith("no GPU is used: runtime tensorrt needs ")
    assert "runtime onnxruntime-cuda needs an NVIDIA GPU, which is not here; what works here: openvino" in failed.error


def test_gpu_takes_what_works_there(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is that of speed and preference, and what does not start is passed over for another one on the GPU."""
    monkeypatch.setattr(repository_module, "missing", lambda name: None)
    made: list[str] = []

    def create(name: str, path: Path, *, threads: int) -> Runtime:
        made.append(name)
        if name == "onnxruntime-cuda":
            raise MissingDependency("no cuDNN")
        return create_runtime("onnxruntime", path, threads=threads)

    path = models / "tiny" / "2"
    with pytest.raises(MissingDependency, match="no cuDNN"):
        load_model(path, runtime="gpu", create=create)
    assert made == ["onnxruntime-cuda"], "the processor is not tried"
    model = load_model(path, runtime="gpu", create=lambda name, path, *, threads: create_runtime("onnxruntime", path))
    assert model.runtime_reason == "the only one installed that reads this bundle"
    assert choose_candidate(read_bundle(path), runtime="gpu").runtime == "onnxruntime-cuda"


def test_a_gpu_comes_first_unless_it_was_measured_to_be_slower(models: Path) -> None:
    bundle = read_bundle(models / "tiny" / "2")

    def first(*speeds: Speed) -> str:
        changed = replace(bundle, info=replace(bundle.info, speed=speeds))
        return rank_candidates(changed, ("onnxruntime-cuda", "openvino", "onnxruntime"))[0].runtime

    assert first() == "onnxruntime-cuda"
    assert first(speed("openvino", 5)) == "onnxruntime-cuda"
    assert first(speed("openvino", 5), speed("onnxruntime-cuda", 50)) == "onnxruntime-cuda"
    assert first(speed("openvino", 5), speed("onnxruntime-cuda", 2)) == "openvino"


def test_a_variant_asked_for_needs_no_measurement(models: Path) -> None:
    bundle = read_bundle(models / "tiny" / "2")
    half = Variant(name="fp16", format="onnx", path="model.fp16.onnx")
    changed = replace(bundle, info=replace(bundle.info, variants=(*bundle.info.variants, half)))
    assert [c.variant.name for c in rank_candidates(changed, ("openvino",), "fp16")] == ["fp16"]
    assert [c.variant.name for c in rank_candidates(changed, ("openvino",))] == ["fp32"]
    assert rank_candidates(changed, ("openvino",), "int8") == []
