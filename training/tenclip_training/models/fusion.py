"""Residual networks for inference on a GPU: batch norms folded, each convolution one pass over memory, 2D kernels.

A convolution of R(2+1)D is over space or over time, so in channels-last memory each is a 2D convolution over views (see
`Conv3d`); with its bias, the residual and the ReLU in the same kernel, a map is read once and written once. That is the
traffic that `roofline` counts.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tenclip_serving.runtimes.torch_ops import conv2d_relu
from tenclip_training.models.padding import leaves, padded
from tenclip_training.models.resnet import BasicBlock, Bottleneck, VideoResNet
from tenclip_training.models.video_model import VideoModel


class FusedConv(nn.Module):
    """Convolution with folded batch norm, then perhaps a residual and ReLU. For inference only.

    `over` says how it runs: "space" (1,k,k) and "time" (k,1,1) as 2D convolutions over views of channels-last memory,
    "points" (1,1,1) of any stride likewise after the positions are picked, "volume" as a 3D convolution.
    """

    def __init__(self, conv: nn.Conv3d, norm: nn.BatchNorm3d | None, *, relu: bool) -> None:
        super().__init__()
        weight, bias = _folded(conv, norm)
        assert not isinstance(conv.padding, str), "padding is always given in numbers here"
        self.relu = relu
        self.kernel_size, self.stride, self.padding = conv.kernel_size, conv.stride, conv.padding
        self.groups = conv.groups
        self.over = "volume"
        layout: torch.memory_format = torch.channels_last_3d
        if conv.groups == 1 and conv.dilation == (1, 1, 1):
            if conv.kernel_size == (1, 1, 1) and conv.padding == (0, 0, 0):
                self.over, weight = "points", weight.squeeze(2)
            elif conv.kernel_size[0] == conv.stride[0] == 1:
                self.over, weight = "space", weight.squeeze(2)
            elif conv.kernel_size[1:] == conv.stride[1:] == (1, 1):
                self.over, weight = "time", weight.squeeze(4)
            layout = torch.channels_last if self.over != "volume" else layout
        self.dilation = conv.dilation
        self.weight = nn.Parameter(weight.contiguous(memory_format=layout), requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """[B,C,T,H,W], and perhaps a residual of the output's shape -> [B,K,T',H',W'], in channels-last memory."""
        x = x.contiguous(memory_format=torch.channels_last_3d)
        if self.over == "volume":
            out = F.conv3d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
            out = out if residual is None else out + residual
            return F.relu(out) if self.relu else out
        if self.over == "time":
            rest = None if residual is None else _rows(residual)
            out = self._images(_rows(x), rest, [self.stride[0], 1], [self.padding[0], 0])
            return out.unflatten(3, (x.shape[3], x.shape[4]))  # type: ignore[no-any-return, no-untyped-call]
        stride, padding = list(self.stride[1:]), list(self.padding[1:])
        if self.over == "points" and self.stride != (1, 1, 1):
            x = x[:, :, :: self.stride[0], :: self.stride[1], :: self.stride[2]]
            x, stride = x.contiguous(memory_format=torch.channels_last_3d), [1, 1]
        batch, frames = x.shape[0], x.shape[2]
        out = self._images(_frames(x), None if residual is None else _frames(residual), stride, padding)
        return out.unflatten(0, (batch, frames)).permute(0, 2, 1, 3, 4)  # type: ignore[no-any-return, no-untyped-call]

    def _images(self, x: Tensor, residual: Tensor | None, stride: list[int], padding: list[int]) -> Tensor:
        """[N,C,H,W] -> [N,K,H',W']"""
        if not self.relu:
            out = F.conv2d(x, self.weight, self.bias, stride, padding)
            return out if residual is None else out + residual
        if residual is not None:
            residual = residual.contiguous(memory_format=torch.channels_last)
        fused: Tensor = conv2d_relu()(x, self.weight, self.bias, residual, stride, padding)
        return fused


class FusedBlock(nn.Module):
    """A residual block whose last convolution adds the shortcut and applies the ReLU."""

    def __init__(self, block: BasicBlock | Bottleneck) -> None:
        super().__init__()
        parts = [block.conv1, block.conv2, *([block.conv3] if isinstance(block, Bottleneck) else [])]
        *first, last = _chain(nn.Sequential(*parts))
        assert isinstance(last, FusedConv)
        self.first, self.last = nn.Sequential(*first), last
        last.relu = True
        side = block.downsample
        self.downsample = nn.Sequential(*_chain(side)) if isinstance(side, nn.Sequential) else side

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.last(self.first(x), residual)
        return out


def as_2d(model: VideoModel) -> VideoModel:
    """A copy in eval mode whose factorised convolutions run as 2D ones, with weights in channels-last memory."""
    network = copy.deepcopy(model).eval()
    network.set_execution("conv2d")
    return network.to(memory_format=torch.channels_last_3d)  # type: ignore[no-any-return, call-overload]


def fused(model: VideoModel) -> VideoModel:
    """A copy in eval mode with its batch norms folded and each convolution in one pass, see `FusedConv`.

    The same function up to rounding. Only for running and exporting: nothing in it can be trained. Raises ValueError
    for networks without residual blocks of this package (`VideoResNet`).
    """
    if not isinstance(model, VideoResNet):
        raise ValueError(f"{model.architecture or type(model).__name__} is no residual network that can be fused")
    network = copy.deepcopy(model).eval()
    network.stem = nn.Sequential(*_chain(network.stem))
    for i in range(1, 5):
        blocks = network.get_submodule(f"layer{i}")
        assert isinstance(blocks, nn.Sequential)
        fused_blocks = []
        for block in blocks:
            assert isinstance(block, BasicBlock | Bottleneck)
            fused_blocks.append(FusedBlock(block))
        setattr(network, f"layer{i}", nn.Sequential(*fused_blocks))
    return network


def for_inference(model: VideoModel) -> VideoModel:
    """The fastest form of a network in torch: padded and fused where it is a residual one, else run in 2D."""
    return fused(padded(model)) if isinstance(model, VideoResNet) else as_2d(model)


def _chain(part: nn.Module) -> list[nn.Module]:
    """The leaves of a chain, each convolution with the batch norm and the ReLU behind it as one `FusedConv`."""
    parts = list(leaves(part))
    made: list[nn.Module] = []
    while parts:
        first = parts.pop(0)
        if not isinstance(first, nn.Conv3d):
            made.append(first)
            continue
        norm = parts.pop(0) if parts and isinstance(parts[0], nn.BatchNorm3d) else None
        assert norm is None or isinstance(norm, nn.BatchNorm3d)
        relu = bool(parts) and isinstance(parts[0], nn.ReLU)
        if relu:
            parts.pop(0)
        made.append(FusedConv(first, norm, relu=relu))
    return made


@torch.no_grad()
def _folded(conv: nn.Conv3d, norm: nn.BatchNorm3d | None) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with its batch norm, computed in float64."""
    weight = conv.weight.double()
    bias = weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.double()
    if norm is not None:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        weight = weight * scale.reshape(-1, 1, 1, 1, 1)
        bias = norm.bias.double() + (bias - norm.running_mean.double()) * scale
    return weight.to(conv.weight.dtype), bias.to(conv.weight.dtype)


def _frames(x: Tensor) -> Tensor:
    """[B,C,T,H,W] -> [B*T,C,H,W], a view of channels-last memory."""
    batch, channels, frames, height, width = x.shape
    return x.permute(0, 2, 1, 3, 4).reshape(batch * frames, channels, height, width)


def _rows(x: Tensor) -> Tensor:
    """[B,C,T,H,W] -> [B,C,T,H*W], a view of channels-last memory."""
    return x.flatten(3)
