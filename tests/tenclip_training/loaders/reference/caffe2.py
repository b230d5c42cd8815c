"""VMZ's Caffe2 files: blob names as its model builder counts them, in a pickle as Python 2 wrote it."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import nn

from .torchvision_like import Basic, Bottleneck, VideoResNet

Blobs = dict[str, NDArray[np.float32]]


def _array(tensor: object) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().numpy().copy()  # type: ignore[attr-defined]
    return array


def _norm(blobs: Blobs, name: str, bn: nn.Module) -> None:
    assert isinstance(bn, nn.BatchNorm3d)
    for suffix, tensor in (("s", bn.weight), ("b", bn.bias), ("rm", bn.running_mean), ("riv", bn.running_var)):
        blobs[f"{name}_{suffix}"] = _array(tensor)


class Builder:
    """The counters of VMZ's `VideoModelBuilder`: a component for each block, an index for each convolution in it."""

    def __init__(self) -> None:
        self.blobs: Blobs = {}
        self.comp_count = self.comp_idx = 0

    def conv(self, conv: nn.Module) -> None:
        self.comp_idx += 1
        name = f"comp_{self.comp_count}_conv_{self.comp_idx}"
        if isinstance(conv, nn.Sequential):  # a (2+1)D pair, or ip-CSN's
            self.blobs[name + "_middle_w"] = _array(conv[0].weight)
            _norm(self.blobs, f"comp_{self.comp_count}_spatbn_{self.comp_idx}_middle", conv[1])
            self.blobs[name + "_w"] = _array(conv[-1].weight)
            return
        assert isinstance(conv, nn.Conv3d)
        if conv.groups > 1:  # `add_channelwise_conv` counts once more
            self.comp_idx += 1
            name = f"comp_{self.comp_count}_conv_{self.comp_idx}"
        self.blobs[name + "_w"] = _array(conv.weight)

    def norm(self, bn: nn.Module) -> None:
        _norm(self.blobs, f"comp_{self.comp_count}_spatbn_{self.comp_idx}", bn)

    def block(self, block: Basic | Bottleneck) -> None:
        self.comp_idx = 0
        sequences = [block.conv1, block.conv2, *([block.conv3] if isinstance(block, Bottleneck) else [])]
        for sequence in sequences:
            self.conv(sequence[0])
            self.norm(sequence[1])
        if isinstance(block.downsample, nn.Sequential):
            self.blobs[f"shortcut_projection_{self.comp_count}_w"] = _array(block.downsample[0].weight)
            _norm(self.blobs, f"shortcut_projection_{self.comp_count}_spatbn", block.downsample[1])
        self.comp_count += 1


def blobs_of(model: VideoResNet) -> Blobs:
    builder = Builder()
    blobs, stem = builder.blobs, model.stem
    assert isinstance(stem, nn.Sequential)
    if isinstance(stem[3] if len(stem) > 3 else None, nn.Conv3d):
        blobs["conv1_middle_w"] = _array(stem[0].weight)
        _norm(blobs, "conv1_middle_spatbn_relu", stem[1])
        blobs["conv1_w"] = _array(stem[3].weight)
        _norm(blobs, "conv1_spatbn_relu", stem[4])
    else:
        blobs["conv1_w"] = _array(stem[0].weight)
        _norm(blobs, "conv1_spatbn_relu", stem[1])
    for n in range(1, 5):
        for block in getattr(model, f"layer{n}"):
            builder.block(block)
    blobs[f"last_out_L{model.fc.out_features}_w"] = _array(model.fc.weight)
    blobs[f"last_out_L{model.fc.out_features}_b"] = _array(model.fc.bias)
    return blobs


def python2_pickle(blobs: Mapping[str, NDArray[np.float32]], *, module: str = "numpy.core.multiarray") -> bytes:
    """`pickle.dumps({"blobs": blobs}, protocol=2)` as Python 2 writes it: names and array data are byte strings."""
    out = [b"\x80\x02}(", _string(b"blobs"), b"}("]
    for name, array in blobs.items():
        out += [_string(name.encode()), _array_opcodes(array, module)]
    out.append(b"uu.")
    return b"".join(out)


def _array_opcodes(array: NDArray[np.float32], module: str) -> bytes:
    shape = b"(" + b"".join(b"J" + struct.pack("<i", side) for side in array.shape) + b"t"
    reconstruct = f"c{module}\n_reconstruct\n".encode() + b"(cnumpy\nndarray\n(K\x00t" + _string(b"b") + b"tR"
    dtype = b"cnumpy\ndtype\n(" + _string(b"f4") + b"K\x00K\x01tR(K\x03" + _string(b"<") + b"NNN"
    dtype += b"J" + struct.pack("<i", -1) + b"J" + struct.pack("<i", -1) + b"K\x00tb"
    data = np.ascontiguousarray(array, dtype="<f4").tobytes()
    return reconstruct + b"(K\x01" + shape + dtype + b"\x89" + _string(data) + b"tb"


def _string(value: bytes) -> bytes:
    if len(value) < 256:
        return b"U" + bytes([len(value)]) + value
    return b"T" + struct.pack("<i", len(value)) + value
