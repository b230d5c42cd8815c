from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pytest
import torch

from tenclip_api.errors import BundleError, ParityError
from tenclip_export import bundle_writer, runtime_checks
from tenclip_export.bundle_folder import next_version
from tenclip_export.bundle_writer import export_bundle
from tenclip_export.golden import SYNTHETIC
from tenclip_export.parity import FLOOR, Row
from tenclip_serving.runtimes import available_runtimes, create_runtime
from tenclip_serving.runtimes.base import Outputs
from tenclip_training.models import VideoModel
from tenclip_training.runs.checkpoint import weights_sha256
from tenclip_video.bundle import Bundle, read_bundle
from tenclip_video.spec import ClipSpec

from .conftest import LABELS, make_model


def everything_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    """Exporting takes seconds and is tested elsewhere: here the graph is a copy of the one that is there already."""

    def copy(model: VideoModel, spec: ClipSpec, path: Path) -> tuple[Path, ...]:
        path.write_bytes((bundle.path / "model.onnx").read_bytes())
        return (path,)

    monkeypatch.setattr(bundle_writer, "export_onnx", copy)
    monkeypatch.setattr(runtime_checks, "available_runtimes", lambda: ("onnxruntime",))


def test_a_bundle_reads_back_whole(bundle: Bundle, model: VideoModel, spec: ClipSpec) -> None:
    again = read_bundle(bundle.path)
    assert again.path.parts[-2:] == ("moves", "1")
    assert again.labels == LABELS
    info = again.info
    assert (info.architecture, info.num_classes, info.feature_dim) == ("r2plus1d_10", 3, 64)
    assert info.clip_spec == spec
    assert info.label_source == "file"
    assert info.provenance["run"] == "test"
    assert info.provenance["weights_sha256"] == weights_sha256(model.state_dict())
    assert sorted(p.name for p in bundle.path.iterdir()) == ["bundle.json", "golden.npz", "labels.txt", "model.onnx"]


def test_parity_of_every_runtime_at_both_crops(bundle: Bundle, rows: list[Row]) -> None:
    assert {(r.runtime, r.crop) for r in rows} == {(name, crop) for name in available_runtimes() for crop in (32, 40)}
    assert all(r.passed and r.top1_agreement == 1 and r.num_clips == len(SYNTHETIC) for r in rows)
    parity = {p.runtime: p for p in bundle.info.parity}
    assert set(parity) == set(available_runtimes()) >= {"onnxruntime", "openvino"}
    assert all(0 < p.relative_l2 < FLOOR and p.num_clips == 2 * len(SYNTHETIC) for p in parity.values())


def test_speed_of_every_runtime(bundle: Bundle) -> None:
    assert {s.runtime for s in bundle.info.speed} == set(available_runtimes())
    assert all(s.clips_per_second > 0 and s.threads >= 1 and "cores" in s.machine for s in bundle.info.speed)


def test_golden_replays(bundle: Bundle) -> None:
    outputs = create_runtime("onnxruntime", bundle.path / "model.onnx").run(bundle.golden.clips)
    np.testing.assert_allclose(outputs.logits, bundle.golden.logits, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(outputs.features, bundle.golden.features, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("cheap")
class TestWriting:
    def test_versions_count_up(self, model: VideoModel, spec: ClipSpec, tmp_path: Path) -> None:
        assert export_bundle(model, spec, tmp_path, name="m").info.version == "1"
        assert export_bundle(model, spec, tmp_path, name="m").info.version == "2"
        assert export_bundle(model, spec, tmp_path, name="m", version="9").info.version == "9"
        assert export_bundle(model, spec, tmp_path, name="m", version="beta").info.version == "beta"
        assert next_version(tmp_path / "m") == "10"
        assert [p.name for p in sorted((tmp_path / "m").iterdir())] == ["1", "2", "9", "beta"]

    def test_an_existing_version_is_kept(self, model: VideoModel, spec: ClipSpec, tmp_path: Path) -> None:
        first = export_bundle(model, spec, tmp_path, name="m", version="1")
        before = (first.path / "bundle.json").read_bytes()
        with pytest.raises(BundleError, match=r"exists; give another --version, or --overwrite .* version is 2"):
            export_bundle(model, spec, tmp_path, name="m", version="1", labels=LABELS)
        assert (first.path / "bundle.json").read_bytes() == before

    def test_overwrite_replaces_all_of_it(self, model: VideoModel, spec: ClipSpec, tmp_path: Path) -> None:
        first = export_bundle(model, spec, tmp_path, name="m", version="1")
        (first.path / "left_over.txt").write_text("from the old one")
        second = export_bundle(model, spec, tmp_path, name="m", version="1", labels=LABELS, overwrite=True)
        assert second.labels == LABELS
        assert everything_below(tmp_path) == [
            "m", "m/1", "m/1/bundle.json", "m/1/golden.npz", "m/1/labels.txt", "m/1/model.onnx",
        ]  # fmt: skip

    def test_a_failed_overwrite_keeps_the_old_one(
        self, model: VideoModel, spec: ClipSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = export_bundle(model, spec, tmp_path, name="m", version="1")
        before = everything_below(tmp_path)
        rename = Path.rename

        def fail(self: Path, target: Path) -> Path:
            if self.name.startswith(".incomplete-"):
                raise OSError("disk on fire")
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", fail)
        with pytest.raises(BundleError, match=r"1 .*|disk on fire"):
            export_bundle(model, spec, tmp_path, name="m", version="1", overwrite=True)
        assert everything_below(tmp_path) == before
        read_bundle(first.path)

    def test_a_version_taken_meanwhile_moves_on(
        self, model: VideoModel, spec: ClipSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def take_it(message: str) -> None:
            (tmp_path / "m" / "1").mkdir(exist_ok=True)
            (tmp_path / "m" / "1" / "somebody").touch()

        bundle = export_bundle(model, spec, tmp_path, name="m", progress=take_it)
        assert bundle.info.version == bundle.path.name == "2"
        with pytest.raises(BundleError, match="exists"):
            export_bundle(model, spec, tmp_path, name="m", version="1")

    def test_without_labels_classes_are_numbers(self, model: VideoModel, spec: ClipSpec, tmp_path: Path) -> None:
        bundle = export_bundle(model, spec, tmp_path, name="m")
        assert (bundle.labels, bundle.info.label_source) == (("0", "1", "2"), "index")

    def test_real_clips_are_among_the_golden_ones(self, model: VideoModel, spec: ClipSpec, tmp_path: Path) -> None:
        real = np.full((2, 8, 32, 32, 3), 77, np.uint8)
        bundle = export_bundle(model, spec, tmp_path, name="m", clips=real)
        assert (bundle.golden.clips == 77).all(axis=(1, 2, 3, 4)).tolist() == [False, False, False, True, True]

    def test_other_users_can_read_it(self, model: VideoModel, spec: ClipSpec, tmp_path: Path) -> None:
        bundle = export_bundle(model, spec, tmp_path, name="m")
        other = tmp_path / "other"
        other.mkdir()
        assert stat.S_IMODE(bundle.path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)

    def test_a_runtime_that_drifts_writes_nothing(
        self, model: VideoModel, spec: ClipSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Drifting:
            name, batch_size = "onnxruntime", 1

            def __init__(self, path: Path) -> None:
                self.inner = create_runtime("onnxruntime", path)

            def run(self, clips: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Outputs:
                logits, features = self.inner.run(clips)
                return Outputs(logits * np.float32(1.001), features)

        monkeypatch.setattr(runtime_checks, "create_runtime", lambda name, path: Drifting(path))
        rows: list[Row] = []
        with pytest.raises(ParityError, match=r"2 of 2 checks .* logits 1\.00e-03 \(allowed 1\.00e-04\)"):
            export_bundle(model, spec, tmp_path, name="m", on_row=rows.append)
        assert [r.passed for r in rows] == [False, False]
        assert everything_below(tmp_path) == []

    def test_a_killed_export_leaves_nothing_that_counts(
        self, model: VideoModel, spec: ClipSpec, tmp_path: Path
    ) -> None:
        def interrupt(message: str) -> None:
            if message.startswith("checking"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export_bundle(model, spec, tmp_path, name="m", progress=interrupt)
        assert everything_below(tmp_path) == []

    @pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../up", "-x", "a b"])
    def test_bad_names(self, model: VideoModel, spec: ClipSpec, tmp_path: Path, name: str) -> None:
        with pytest.raises(BundleError, match="bundle name"):
            export_bundle(model, spec, tmp_path / "out", name=name)
        with pytest.raises(BundleError, match="version"):
            export_bundle(model, spec, tmp_path / "out", name="m", version=name)
        assert everything_below(tmp_path) in ([], ["out"])

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (("a", "b"), "2 labels for a model of 3 classes"),
            (("a", "b", "c", "d"), "4 labels for a model of 3 classes"),
            (("a", " ", "c"), "label 1 is ' '"),
            (("a", "b", "c\nd"), r"label 2 is 'c\\nd'"),
            (("a", "b", "c\u2028d"), "label 2 is"),
        ],
    )
    def test_bad_labels(
        self, model: VideoModel, spec: ClipSpec, tmp_path: Path, labels: tuple[str, ...], message: str
    ) -> None:
        with pytest.raises(BundleError, match=message):
            export_bundle(model, spec, tmp_path, name="m", labels=labels)
        assert everything_below(tmp_path) == []

    def test_weights_that_are_not_finite(self, spec: ClipSpec, tmp_path: Path) -> None:
        model = make_model()
        with torch.no_grad():
            model.fc.weight[0, 0] = float("nan")
        with pytest.raises(BundleError, match=r"1 weights of the model are not finite, fc\.weight"):
            export_bundle(model, spec, tmp_path, name="m")
        assert everything_below(tmp_path) == []

    def test_a_spec_of_another_crop(self, model: VideoModel, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="made for 32 pixels, its ClipSpec crops to 24"):
            export_bundle(model, ClipSpec(num_frames=8, crop=24, fully_convolutional_crop=None), tmp_path, name="m")

    def test_a_file_where_the_directory_should_be(self, model: VideoModel, spec: ClipSpec, tmp_path: Path) -> None:
        (tmp_path / "models").write_text("not a directory")
        with pytest.raises(BundleError, match=r"models/m: the bundle cannot be written"):
            export_bundle(model, spec, tmp_path / "models", name="m")

    def test_the_model_given_is_left_alone(self, spec: ClipSpec, tmp_path: Path) -> None:
        model = make_model().train()
        before = weights_sha256(model.state_dict())
        export_bundle(model, spec, tmp_path, name="m")
        assert model.training
        assert weights_sha256(model.state_dict()) == before
        assert all(p.requires_grad for p in model.parameters())


def test_bundle_json_says_how_it_was_made(bundle: Bundle) -> None:
    provenance = json.loads((bundle.path / "bundle.json").read_text())["provenance"]
    assert set(provenance["tools"]) == {"tenclip", "torch", "onnx", "onnxscript"}
    assert 0 < provenance["float32_noise"]["logits"] < 1e-5
