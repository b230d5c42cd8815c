"""Files: formats, whole or not at all, and nothing in them is ever run."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tenclip_api.errors import CheckpointError
from tenclip_training.loaders.caffe2 import torch_names
from tenclip_training.loaders.files import read_weights

from .helpers import load, save, trained
from .reference import caffe2
from .reference import torchvision_like as tv


@pytest.fixture(scope="module")
def reference() -> tv.VideoResNet:
    return trained(tv.torchvision_r3d(4, num_classes=3))


def safetensors(tensors: dict[str, Tensor]) -> bytes:
    names = {
        torch.float32: "F32",
        torch.float16: "F16",
        torch.bfloat16: "BF16",
        torch.int64: "I64",
        torch.int8: "I8",
        torch.bool: "BOOL",
        torch.complex64: "C64",
        torch.float8_e4m3fn: "F8_E4M3",
    }
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, tensor in tensors.items():
        raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        header[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def same_weights(path: Path, reference: tv.VideoResNet) -> None:
    loaded = load(path).model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in reference.state_dict().items())


def test_torch_zip_and_legacy(reference: tv.VideoResNet, tmp_path: Path) -> None:
    same_weights(save(tmp_path / "w.ckpt", reference), reference)
    torch.save(reference.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    same_weights(tmp_path / "old.pt", reference)


@pytest.mark.parametrize(
    "key",
    [
        "state_dict",
        "model_state",
        "model_state_dict",
        "model",
        "net",
        "network",
        "weights",
        "params",
        "state",
        "module",
    ],
)
def test_weights_beside_other_things(key: str, reference: tv.VideoResNet, tmp_path: Path) -> None:
    def wrap(state: dict[str, Tensor]) -> Any:
        args = argparse.Namespace(lr=0.1)
        return {key: state, "epoch": 3, "args": args, "best": np.float64(0.5), "optimizer": {"lr": torch.zeros(1)}}

    same_weights(save(tmp_path / "w.pth", reference, wrap), reference)


def test_weights_in_a_wrapper_in_a_wrapper(reference: tv.VideoResNet, tmp_path: Path) -> None:
    same_weights(save(tmp_path / "w.pth", reference, lambda s: {"model": {"state_dict": s, "step": 1}}), reference)


PREFIXES = ["module.", "module.module.", "ema_model.module.", "model.", "net.", "backbone.", "_orig_mod.", "a.b.c."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_one_prefix_before_all_names_is_taken_off_and_said(
    prefix: str, reference: tv.VideoResNet, tmp_path: Path
) -> None:
    path = save(tmp_path / "w.ckpt", reference, lambda s: {"state_dict": {f"{prefix}{n}": v for n, v in s.items()}})
    same_weights(path, reference)
    provenance = load(path).provenance
    assert provenance["prefix"] == prefix
    assert f"{prefix!r} stood before all names" in " ".join(provenance["notes"])


def test_compiled_parts_of_a_network(reference: tv.VideoResNet, tmp_path: Path) -> None:
    state = reference.state_dict()
    compiled = {n.replace(".", "._orig_mod.", 1) if n.startswith("layer") else n: v for n, v in state.items()}
    torch.save(compiled, tmp_path / "w.pth")
    same_weights(tmp_path / "w.pth", reference)
    assert "of torch.compile was taken out" in " ".join(load(tmp_path / "w.pth").provenance["notes"])


def test_counters_of_a_wrapper_and_masks_are_left_out(reference: tv.VideoResNet, tmp_path: Path) -> None:
    extra = {"n_averaged": torch.tensor(3), "mask": torch.ones(4, dtype=torch.bool)}
    averaged = {**{f"module.{n}": v for n, v in reference.state_dict().items()}, **extra}
    torch.save(averaged, tmp_path / "swa.pth")
    same_weights(tmp_path / "swa.pth", reference)
    assert load(tmp_path / "swa.pth").provenance["ignored"] == ["mask", "n_averaged"]
    (tmp_path / "w.safetensors").write_bytes(safetensors({**reference.state_dict(), "mask": extra["mask"]}))
    same_weights(tmp_path / "w.safetensors", reference)


def test_a_network_beside_tensors_of_a_loss(reference: tv.VideoResNet, tmp_path: Path) -> None:
    state = {f"model.{n}": v for n, v in reference.state_dict().items()}
    torch.save({"state_dict": {**state, "criterion.weight": torch.ones(3)}}, tmp_path / "w.ckpt")
    same_weights(tmp_path / "w.ckpt", reference)
    assert (
        "1 tensors beside the network 'model' left out: criterion.weight"
        in load(tmp_path / "w.ckpt").provenance["notes"]
    )
    torch.save({**state, **{f"ema.{n}": v for n, v in reference.state_dict().items()}}, tmp_path / "two.ckpt")
    with pytest.raises(CheckpointError, match="2 networks in one file, under 'ema', 'model'"):
        load(tmp_path / "two.ckpt")


def test_safetensors(reference: tv.VideoResNet, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors(reference.state_dict()))
    same_weights(path, reference)
    half = {n: v.half() if v.is_floating_point() else v for n, v in reference.state_dict().items()}
    path.write_bytes(safetensors(half))
    loaded = load(path).model
    assert loaded.fc.weight.dtype == torch.float32
    assert torch.equal(loaded.fc.weight, half["fc.weight"].float())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[:-10], "damaged or cut off: "),
        (lambda c: c[:20], "damaged or cut off: a header of"),
        (lambda c: c.replace(b'"F32"', b'"F8X"', 1), "stem.0.weight is of type F8X, not one of"),
        (lambda c: c.replace(b'"shape": [3]', b'"shape": [4]', 1), "damaged or cut off: fc.bias"),
        (lambda c: c.replace(b'"dtype"', b'"dtypo"', 1), "damaged"),
    ],
)
def test_damaged_safetensors(change: Any, message: str, reference: tv.VideoResNet, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(change(safetensors(reference.state_dict())))
    with pytest.raises(CheckpointError, match=rf"w\.safetensors: {message}"):
        load(path)


def with_header(content: bytes, change: Any) -> bytes:
    """The file with another header before the same data."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def with_a_name_twice(content: bytes) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    text = b'{"fc.bias": {},' + content[9 : 8 + length]
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def test_safetensors_must_account_for_every_byte(reference: tv.VideoResNet, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    content = safetensors(reference.state_dict())
    first, second = list(reference.state_dict())[:2]

    def overlap(header: dict[str, Any]) -> None:
        header[second]["data_offsets"] = [n - 4 for n in header[second]["data_offsets"]]

    def same_place(header: dict[str, Any]) -> None:
        header["copy"] = dict(header[first])

    def hole(header: dict[str, Any]) -> None:
        del header[second]

    for damaged, message in (
        (content + b"\0" * 8, "8 bytes follow the last tensor"),
        (with_header(content, overlap), f"{second} begins at byte .*, inside {first}"),
        (with_header(content, same_place), "begins at byte 0, inside"),
        (with_header(content, hole), "belong to no tensor"),
        (with_a_name_twice(content), "a name occurs twice"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=rf"w\.safetensors: damaged.*{message}"):
            load(path)


@pytest.mark.parametrize("form", ["torch", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_weights_of_types_that_are_none(
    dtype: torch.dtype, form: str, reference: tv.VideoResNet, tmp_path: Path
) -> None:
    name = "layer1.0.conv1.0.weight"
    state = {**reference.state_dict(), name: reference.state_dict()[name].to(dtype)}
    path = tmp_path / "w"
    if form == "torch":
        torch.save({"state_dict": state}, path)
    else:
        path.write_bytes(safetensors(state))
    said = str(dtype).removeprefix("torch.")
    with pytest.raises(CheckpointError, match=rf"w: layer1\.0\.conv1\.0\.weight is of type {said}, which is no weight"):
        load(path)


def test_damage_anywhere_in_a_zip_is_seen(reference: tv.VideoResNet, tmp_path: Path) -> None:
    path = save(tmp_path / "w.pth", reference)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(4096) + content[len(content) // 2 + 4096 :])
    with pytest.raises(CheckpointError, match=r"w\.pth: damaged: the checksum of w/data/\d+ does not fit"):
        load(path)
    generator = random.Random(0)
    for _ in range(60):
        flipped = bytearray(content)
        flipped[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(flipped)
        with contextlib.suppress(CheckpointError):  # or it was a bit of padding that nothing depends on
            same_weights(path, reference)


def test_files_without_checksums_say_so(reference: tv.VideoResNet, tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = save(tmp_path / "w.pth", reference)
    finally:
        torch.serialization.set_crc32_options(True)
    same_weights(path, reference)
    assert "without checksums" in " ".join(load(path).provenance["notes"])


def archive(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for name in names:
            made.writestr(name, b"content")
    return path


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"], r"a TorchScript program \(torch\.jit\.save\)"),
        (["m/archive_format", "m/models/model.json"], r"a program of torch\.export"),
        (["weights.pth", "README"], r"not one of torch\.save; it holds weights\.pth, README"),
    ],
)
def test_other_archives_are_called_what_they_are(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        load(archive(tmp_path / "w.pt", *names))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\x1f\x8b\x08\x00", "compressed with gzip"),
        (b"x" * 257 + b"ustar" + b"x" * 300, "a tar archive"),
    ],
)
def test_downloads_that_went_wrong(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "w.pth")


@pytest.mark.parametrize("keep", [0.01, 0.5, 0.95])
@pytest.mark.parametrize("form", ["zip", "legacy", "caffe2"])
def test_truncated_files(form: str, keep: float, reference: tv.VideoResNet, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    if form == "caffe2":
        path.write_bytes(caffe2.python2_pickle(caffe2.blobs_of(tv.vmz_r2plus1d(4, num_classes=3))))
    else:
        torch.save(reference.state_dict(), path, _use_new_zipfile_serialization=form == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(CheckpointError, match=r"w\.pth: .*(damaged|cut off)"):
        load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"RIFF....AVI LIST", "not a checkpoint; readable are"),
        (b"PK\x03\x04 no archive", "damaged or cut off"),
        (pickle.dumps([1, 2, 3]), "holds no dict of blobs"),
        (pickle.dumps({"blobs": {"conv1_w": "text"}}), "blob 'conv1_w' is a str"),
        (pickle.dumps({}), "holds no dict of blobs"),
    ],
)
def test_other_files(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pkl"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load(path)


def test_absent_and_directories(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load(tmp_path / "absent.pth")
    with pytest.raises(CheckpointError, match="a directory"):
        load(tmp_path)


def test_torch_files_without_weights(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="holds no weights; its entries are epoch"):
        load(tmp_path / "a.pth")
    torch.save([torch.zeros(2)], tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match="holds a list"):
        load(tmp_path / "b.pth")
    torch.save({"architecture": "r2plus1d_10", "clip_spec": {}, "state_dict": {"w": torch.zeros(1)}}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="a checkpoint of tenclip"):
        load(tmp_path / "c.pt")


class Malicious:
    """Unpickling it makes a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_runs_nothing(protocol: int, tmp_path: Path) -> None:
    path, target = tmp_path / "w.pkl", tmp_path / "owned"
    path.write_bytes(pickle.dumps({"blobs": {"conv1_w": Malicious(target)}}, protocol=protocol))
    with pytest.raises(CheckpointError, match=r"asks for (posix|nt)\.mkdir; .* was not loaded"):
        load(path)
    assert not target.exists()


@pytest.mark.parametrize("name", ["builtins eval", "numpy fromfile", "numpy.core.multiarray scalar", "os system"])
def test_other_globals_are_refused(name: str, tmp_path: Path) -> None:
    module, attribute = name.split()
    path = tmp_path / "w.pkl"
    path.write_bytes(f"\x80\x02c{module}\n{attribute}\n(U\x01atR.".encode("latin1"))
    with pytest.raises(CheckpointError, match=f"asks for {module}.{attribute}"):
        load(path)


def test_a_malicious_torch_file_runs_nothing(tmp_path: Path) -> None:
    path, target = tmp_path / "w.pth", tmp_path / "owned"
    torch.save({"state_dict": {"w": torch.zeros(1)}, "hook": Malicious(target)}, path)
    with pytest.raises(CheckpointError, match=r"loading those could run code.*mkdir"):
        load(path)
    assert not target.exists()


def test_a_reconstruct_that_asks_for_all_memory_makes_an_empty_array(tmp_path: Path) -> None:
    path = tmp_path / "w.pkl"
    huge = b"(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft"
    reconstruct = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + huge + b"U\x01btR"
    path.write_bytes(b"\x80\x02}(U\x05blobs}(U\x07conv1_w" + reconstruct + b"uu.")
    assert read_weights(path).tensors["conv1_w"].numel() == 0


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_caffe2_pickles_of_old_and_new_numpy(module: str, tmp_path: Path) -> None:
    blobs = caffe2.blobs_of(trained(tv.vmz_r2plus1d(4, num_classes=3)))
    path = tmp_path / "w.pkl"
    path.write_bytes(caffe2.python2_pickle(blobs, module=module))
    tensors = read_weights(path).tensors
    assert tensors.keys() == blobs.keys()
    assert all(np.array_equal(tensors[name].numpy(), blob) for name, blob in blobs.items())


def test_caffe2_pickles_written_by_python_3(tmp_path: Path) -> None:
    blobs = caffe2.blobs_of(trained(tv.vmz_csn(4, "ir", num_classes=3)))
    for content in (pickle.dumps({"blobs": blobs}, protocol=4), pickle.dumps(blobs, protocol=4)):
        (tmp_path / "w.pkl").write_bytes(content)
        assert load(tmp_path / "w.pkl").model.architecture == "ir_csn_50"


def test_caffe2_names_that_nobody_knows_are_unexpected(tmp_path: Path) -> None:
    blobs = caffe2.blobs_of(trained(tv.vmz_r2plus1d(4, num_classes=3)))
    assert len(torch_names(blobs)) == len(blobs)
    blobs["comp_0_conv_1_momentum"] = np.zeros(3, np.float32)
    (tmp_path / "w.pkl").write_bytes(caffe2.python2_pickle(blobs))
    with pytest.raises(CheckpointError, match="1 unexpected: comp_0_conv_1_momentum"):
        load(tmp_path / "w.pkl")


def test_missing_unexpected_and_misshapen_tensors_are_all_listed(reference: tv.VideoResNet, tmp_path: Path) -> None:
    state = dict(reference.state_dict())
    del state["layer1.0.conv2.1.bias"]
    state["layer3.0.attention.weight"] = torch.zeros(1)
    state["layer2.0.conv1.1.weight"] = torch.zeros(5)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="not a whole torchvision_r3d_18") as caught:
        load(tmp_path / "w.pth")
    message = str(caught.value)
    assert "1 missing (by our names): layer1.0.conv2.1.bias" in message
    assert "1 unexpected: layer3.0.attention.weight" in message
    assert "1 of a wrong shape: layer2.0.conv1.1.weight is [5], needed is [8]" in message


def test_counters_of_batches_may_be_missing(reference: tv.VideoResNet, tmp_path: Path) -> None:
    state = {n: v for n, v in reference.state_dict().items() if not n.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "w.pth")
    assert load(tmp_path / "w.pth").model.num_classes == 3


def test_without_a_classifier(reference: tv.VideoResNet, tmp_path: Path) -> None:
    state = {n: v for n, v in reference.state_dict().items() if not n.startswith("fc.")}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="torchvision_r3d_18 without a classifier"):
        load(tmp_path / "w.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value: float, reference: tv.VideoResNet, tmp_path: Path) -> None:
    state = {n: v.clone() for n, v in reference.state_dict().items()}
    state["layer2.0.conv1.0.weight"][0, 0, 0, 0, 0] = value
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"1 tensors hold NaN or infinity: layer2\.0\.conv1\.0\.weight"):
        load(tmp_path / "w.pth")


def test_negative_variances_are_refused(reference: tv.VideoResNet, tmp_path: Path) -> None:
    state = {n: v.clone() for n, v in reference.state_dict().items()}
    state["stem.1.running_var"][2] = -0.1
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"negative variance: stem\.1\.running_var"):
        load(tmp_path / "w.pth")


def test_a_loaded_model_trains_and_keeps_its_own_memory(reference: tv.VideoResNet, tmp_path: Path) -> None:
    loaded = load(save(tmp_path / "w.pth", reference)).model
    assert not loaded.training
    assert all(p.requires_grad and p.device.type == "cpu" for p in loaded.parameters())
    loaded.train()(torch.randn(2, 3, 8, 32, 32))[0].sum().backward()
    assert loaded.fc.weight.grad is not None


def test_provenance_is_plain_json(reference: tv.VideoResNet, tmp_path: Path) -> None:
    provenance = load(save(tmp_path / "w.pth", reference)).provenance
    assert json.loads(json.dumps(provenance)) == provenance
    assert provenance["file"] == "w.pth"
    assert len(provenance["file_sha256"]) == 64


def test_a_state_dict_of_arrays_keeps_the_shapes_of_single_numbers(tmp_path: Path) -> None:
    path = tmp_path / "arrays.pkl"
    state: dict[str, Any] = {
        "bn.num_batches_tracked": np.array(3, np.int64),
        "conv.weight": np.ones((2, 3), np.float32).T,
    }
    path.write_bytes(pickle.dumps(state, protocol=4))
    tensors = read_weights(path).tensors
    assert {name: value.shape for name, value in tensors.items()} == {name: v.shape for name, v in state.items()}
    assert tensors["bn.num_batches_tracked"] == 3


def test_a_tensor_alone_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save(torch.ones(3), tmp_path / "one.pt")
    with pytest.raises(CheckpointError, match=r"one\.pt: holds a tensor, not weights by name"):
        read_weights(tmp_path / "one.pt")
