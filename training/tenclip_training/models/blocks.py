"""Building blocks that every 3D residual network of the zoo is made of.

Shapes: B clips, C channels, T frames, H rows, W columns; feature maps are [B,C,T,H,W]. A size or stride of two numbers
is (time, space); one of three is (time, height, width).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# How the factorised convolutions run; the weights and the outputs are the same (to rounding).
Execution = Literal["conv3d", "conv2d"]


def mid_planes(in_planes: int, planes: int) -> int:
    """Channels between the two halves of a (2+1)D convolution, so that both together have as many weights as one
    3x3x3 convolution (Tran et al. 2018, section 3.5).

    >>> mid_planes(64, 64), mid_planes(64, 128)
    (144, 230)
    """
    return max(1, (27 * in_planes * planes) // (9 * in_planes + 3 * planes))


def _every(images: Tensor, stride: tuple[int, ...]) -> Tensor:
    """The positions that a 1x1 convolution of that stride looks at, in channels-last memory: it then needs no stride.

    On CPUs with AVX-512, torch 2.13's gradient of a strided 1x1 convolution in channels-last memory writes beyond its
    buffers where channels are no multiple of 16 (`MALLOC_CHECK_=3` shows it); without a stride it does not.
    """
    step_h, step_w = stride
    if stride == (1, 1):
        return images
    return images[:, :, ::step_h, ::step_w].contiguous(memory_format=torch.channels_last)


class Conv3d(nn.Conv3d):
    """`nn.Conv3d` that can run (1,k,k) and (k,1,1) kernels as 2D convolutions.

    In channels-last memory a map lies as (B,T,H,W,C). Seen as B*T images of H x W it takes a (1,k,k) kernel, seen as B
    images of T x (H*W) a (k,1,1) kernel: views both, nothing is copied but for strided (1,1,1) kernels, see `_every`.

    `make bench ARGS=runtimes` has both, beside contiguous memory, in inference. ONNX Runtime and OpenVINO have kernels
    of their own for Conv3d, so export keeps it.
    """

    execution: Execution = "conv3d"

    def forward(self, input: Tensor) -> Tensor:
        if self.execution == "conv2d" and self.padding_mode == "zeros":
            if self.kernel_size[0] == self.stride[0] == 1:
                return self._over_space(input)
            if self.kernel_size[1:] == self.stride[1:] == (1, 1):
                return self._over_time(input)
        return super().forward(input)

    def _over_space(self, x: Tensor) -> Tensor:
        batch, channels, frames, height, width = x.shape
        x = x.contiguous(memory_format=torch.channels_last_3d)
        # [B,C,T,H,W] -> [B*T,C,H,W], a view of (B,T,H,W,C) memory
        images = x.permute(0, 2, 1, 3, 4).reshape(batch * frames, channels, height, width)
        _, pad_h, pad_w = self._padding()
        weight, stride = self.weight.squeeze(2), self.stride[1:]
        if self.kernel_size[1:] == (1, 1) and (pad_h, pad_w) == (0, 0):
            images, stride = _every(images, stride), (1, 1)
        out = F.conv2d(images, weight, self.bias, stride, (pad_h, pad_w), self.dilation[1:], self.groups)
        return out.unflatten(0, (batch, frames)).permute(0, 2, 1, 3, 4)  # type: ignore[no-any-return, no-untyped-call]

    def _over_time(self, x: Tensor) -> Tensor:
        height, width = x.shape[3:]
        x = x.contiguous(memory_format=torch.channels_last_3d)
        images = x.flatten(3)  # [B,C,T,H*W]
        stride, padding, dilation = (self.stride[0], 1), (self._padding()[0], 0), (self.dilation[0], 1)
        weight = self.weight.squeeze(4)
        if self.kernel_size[0] == 1 and padding == (0, 0):
            images, stride = _every(images, stride), (1, 1)
        out = F.conv2d(images, weight, self.bias, stride, padding, dilation, self.groups)
        return out.unflatten(3, (height, width))  # type: ignore[no-any-return, no-untyped-call]

    def _padding(self) -> tuple[int, int, int]:
        assert not isinstance(self.padding, str), "padding is always given in numbers here"
        pad_t, pad_h, pad_w = self.padding
        return pad_t, pad_h, pad_w


def conv(
    in_planes: int,
    planes: int,
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    *,
    groups: int = 1,
) -> Conv3d:
    """A convolution without bias, padded so that each side becomes ceil(side / stride). Kernels must be odd."""
    (kt, ks), (st, ss) = kernel, stride
    padding = (kt // 2, ks // 2, ks // 2)
    return Conv3d(in_planes, planes, (kt, ks, ks), (st, ss, ss), padding, groups=groups, bias=False)


class Conv2Plus1d(nn.Sequential):
    """A convolution over space, BN, ReLU, then one over time: the (2+1)D factorisation of Tran et al. 2018.

    `time_first` turns the order round (pytorchvideo's r2plus1d_r50); the stride in time always belongs to the
    convolution over time.
    """

    def __init__(
        self,
        in_planes: int,
        planes: int,
        mid: int,
        stride: tuple[int, int] = (1, 1),
        *,
        space: int = 3,
        time: int = 3,
        time_first: bool = False,
    ) -> None:
        over_space, over_time = ((1, space), (1, stride[1])), ((time, 1), (stride[0], 1))
        first, second = (over_time, over_space) if time_first else (over_space, over_time)
        super().__init__(
            conv(in_planes, mid, *first), nn.BatchNorm3d(mid), nn.ReLU(inplace=True), conv(mid, planes, *second)
        )


class SameConv3d(Conv3d):
    """A convolution without bias and with TensorFlow's "SAME" padding, which with a stride depends on the input's size.

    Kernels of stride 1 must be odd: their padding is even, and part of the convolution.
    """

    def __init__(
        self, in_planes: int, planes: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1), *, groups: int = 1
    ) -> None:
        (kt, ks), (st, ss) = kernel, stride
        self.pads_itself = stride == (1, 1)
        padding = (kt // 2, ks // 2, ks // 2) if self.pads_itself else (0, 0, 0)
        super().__init__(in_planes, planes, (kt, ks, ks), (st, ss, ss), padding, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input if self.pads_itself else pad_same(input, self.kernel_size, self.stride))


class SameMaxPool3d(nn.MaxPool3d):
    """A max pool with TensorFlow's "SAME" padding. It may pad with zeros, so its input must not be negative."""

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
        (kt, ks), (st, ss) = kernel, stride
        self.pads_itself = stride == (1, 1)
        super().__init__((kt, ks, ks), (st, ss, ss), (kt // 2, ks // 2, ks // 2) if self.pads_itself else 0)
        self.sizes, self.strides = (kt, ks, ks), (st, ss, ss)

    def forward(self, input: Tensor) -> Tensor:
        out: Tensor = super().forward(input if self.pads_itself else pad_same(input, self.sizes, self.strides))
        return out


def pad_same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Pads [B,C,T,H,W] so that every side n becomes ceil(n / stride): k - s + (-n mod s) zeros, the odd one behind."""
    pads: list[int] = []
    for size, k, s in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        assert s in (1, 2), "the networks here stride by 1 or 2"
        assert k >= s
        # An odd side needs one more. No floor division of sizes: it makes exporting slow, where they are symbols.
        more = size % 2 if s == 2 else 0
        before, behind = (k - s) // 2, (k - s) - (k - s) // 2
        pads += [before + more, behind] if (k - s) % 2 else [before, behind + more]
    return F.pad(x, pads)


def set_execution(module: nn.Module, execution: Execution) -> None:
    """Switches every convolution in `module`; its state_dict stays as it is.

    "conv2d" wants its input in channels-last memory (`clips.contiguous(memory_format=torch.channels_last_3d)`, or a
    clip batch that was uint8 [B,T,H,W,3]); anything else is converted on the way in.
    """
    if execution not in get_args(Execution):
        raise ValueError(f"execution must be one of {get_args(Execution)}, got {execution!r}")
    for part in module.modules():
        if isinstance(part, Conv3d):
            part.execution = execution


def set_batch_norm(module: nn.Module, *, eps: float, momentum: float = 0.1) -> None:
    """Sets eps and momentum of every batch norm: they differ between families and no state_dict carries them."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm3d):
            part.eps, part.momentum = eps, momentum


def init_weights(module: nn.Module) -> None:
    """Kaiming normal (fan out) for convolutions, N(0, 0.01) for linear layers, as torchvision's video networks."""
    if any(p.is_meta for p in module.parameters()):
        return  # there is nothing to fill, and trying takes long
    for part in module.modules():
        if isinstance(part, nn.Conv3d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm1d | nn.BatchNorm3d):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0, 0.01)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
