from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tenclip_api.errors import CheckpointError
from tenclip_training.models import VideoModel, create_model
from tenclip_training.runs.checkpoint import load_checkpoint, load_weights, save_checkpoint, weights_sha256
from tests.tenclip_training.conftest import SPEC

LABELS = ("jump", "run", "walk")


@pytest.fixture
def model() -> VideoModel:
    torch.manual_seed(0)
    return create_model("r2plus1d_10", num_classes=3, width=4, num_frames=4, crop=16)


@pytest.fixture
def path(model: VideoModel, tmp_path: Path) -> Path:
    file = tmp_path / "m.pt"
    save_checkpoint(file, model, clip_spec=SPEC, labels=LABELS, provenance={"run": "a"}, training_state={"epoch": 2})
    return file


def rewrite(path: Path, **changes: Any) -> Path:
    """The same file with other values; a value of None takes the field away."""
    payload = torch.load(path, weights_only=True)
    payload.update(changes)
    torch.save({k: v for k, v in payload.items() if v is not None}, path)
    return path


def test_round_trip(model: VideoModel, path: Path) -> None:
    model.train()
    loaded = load_checkpoint(path)
    assert loaded.clip_spec == SPEC
    assert loaded.labels == LABELS
    assert loaded.provenance == {"run": "a"}
    assert loaded.training_state == {"epoch": 2}
    assert loaded.model.architecture == "r2plus1d_10"
    assert loaded.model.config == model.config
    assert not loaded.model.training
    assert model.training, "saving left the model as it was"
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)
    clips = torch.randn(2, 3, 4, 16, 16)
    model.eval()
    assert torch.equal(loaded.model(clips)[0], model(clips)[0])


def test_labels_may_be_unknown(model: VideoModel, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m.pt", model, clip_spec=SPEC, labels=None, provenance={})
    assert load_checkpoint(tmp_path / "m.pt").labels is None


def test_memory_format_does_not_change_the_weights_hash(model: VideoModel) -> None:
    before = weights_sha256(model.state_dict())
    model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    assert weights_sha256(model.state_dict()) == before
    with torch.no_grad():
        model.fc.bias[0] += 1e-3
    assert weights_sha256(model.state_dict()) != before


def test_writing_replaces_whole_files_and_leaves_nothing_behind(
    model: VideoModel, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def breaks_off(_payload: object, file: Any) -> None:
        file.write(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", breaks_off)
    with pytest.raises(CheckpointError, match=r"m\.pt: cannot be written: no space left"):
        save_checkpoint(path, model, clip_spec=SPEC, labels=LABELS, provenance={})
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["m.pt"]


def test_wrong_number_of_labels(model: VideoModel, path: Path) -> None:
    with pytest.raises(CheckpointError, match="2 labels for a model of 3 classes"):
        save_checkpoint(path, model, clip_spec=SPEC, labels=LABELS[:2], provenance={})
    with pytest.raises(CheckpointError, match=r"m\.pt: 1 labels for a model of 3 classes"):
        load_checkpoint(rewrite(path, labels=["jump"]))


def test_absent_and_directories(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"x\.pt: no such file"):
        load_checkpoint(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="not a file"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 and then nothing", b"\x80\x02}q\x00."])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.pt: (not a checkpoint, or damaged|a torch file)"):
        load_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("part", [0.01, 0.3, 0.7, 0.99])
def test_truncated(path: Path, part: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(CheckpointError, match=r"m\.pt: not a checkpoint, or damaged"):
        load_checkpoint(path)


def test_a_flipped_bit_in_the_weights_is_noticed(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        largest = max((i for i in archive.infolist() if "/data/" in i.filename), key=lambda i: i.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + 200 + largest.file_size // 2] ^= 1  # well inside the tensor
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"m\.pt: .*damaged"):
        load_checkpoint(path)


def test_loading_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "made"),)

    torch.save({"format": "tenclip-checkpoint", "x": Evil()}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint, or damaged"):
        load_checkpoint(tmp_path / "x.pt")
    (tmp_path / "y.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match="not a checkpoint, or damaged"):
        load_checkpoint(tmp_path / "y.pt")
    assert not (tmp_path / "made").exists()


def test_checkpoints_of_others(tmp_path: Path, model: VideoModel) -> None:
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="a torch file, but not a tenclip-checkpoint"):
        load_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 99}, "version 99; this tenclip reads 1"),
        ({"architecture": "r2plus1d_11"}, "r2plus1d_11"),
        ({"model_config": {"num_classes": 3, "wings": 2}}, "wings"),
        ({"model_config": None}, "has no field 'model_config'"),
        ({"clip_spec": {"num_frames": 0}}, "num_frames must be at least 1"),
        ({"clip_spec": {"wings": 2}}, "ClipSpec has no field wings"),
        ({"weights_sha256": "0" * 64}, "not those that were written"),
    ],
)
def test_values_that_do_not_fit(path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=rf"m\.pt: .*{message}"):
        load_checkpoint(rewrite(path, **changes))


def test_weights_that_do_not_fit(path: Path, model: VideoModel) -> None:
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    missing = {k: v for k, v in weights.items() if k != "fc.bias"}
    with pytest.raises(CheckpointError, match=r"m\.pt: .*1 missing \(fc\.bias\)"):
        load_checkpoint(rewrite(path, state_dict=missing))
    with pytest.raises(CheckpointError, match=r"1 unexpected \(wings\)"):
        load_checkpoint(rewrite(path, state_dict=weights | {"wings": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=r"fc\.bias is \[5\], r2plus1d_10 needs \[3\]"):
        load_checkpoint(rewrite(path, state_dict=weights | {"fc.bias": torch.zeros(5)}))
    for value in (float("nan"), float("inf")):
        with pytest.raises(CheckpointError, match=r"fc\.bias holds values that are not finite"):
            load_checkpoint(rewrite(path, state_dict=weights | {"fc.bias": torch.full((3,), value)}))


def test_weights_are_loaded_whole_or_not_at_all(model: VideoModel) -> None:
    before = weights_sha256(model.state_dict())
    other = create_model("r2plus1d_10", num_classes=3, width=4, num_frames=4, crop=16).state_dict()
    other["fc.bias"] = torch.full((3,), float("nan"))
    with pytest.raises(CheckpointError, match="not finite"):
        load_weights(model, other, source="other.pt")
    assert weights_sha256(model.state_dict()) == before
