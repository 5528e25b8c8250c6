"""The conv family in plain PyTorch: the oracle of the tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ACTIVATIONS", "conv", "conv_dgrad", "conv_wgrad", "epilogue"]

Size = Sequence[int]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
}


def epilogue(
    sums: Tensor,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    residual: Tensor | None = None,
    activation: str = "none",
) -> Tensor:
    """act(scale * sums + bias + residual); scale and bias per channel, residual like sums."""
    channels = (-1, *(1,) * (sums.dim() - 2))
    if scale is not None:
        sums = sums * scale.reshape(channels)
    if bias is not None:
        sums = sums + bias.reshape(channels)
    if residual is not None:
        sums = sums + residual
    return ACTIVATIONS[activation](sums)


def conv(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Size,
    dilation: Size,
    groups: int,
) -> Tensor:
    """x [N, C, ...], w [K, C/groups, ...] -> [N, K, ...]."""
    out: Tensor = torch.convolution(
        x, w, bias, stride, padding, dilation, False, [0] * len(stride), groups
    )
    return out


def conv_dgrad(
    dy: Tensor,
    w: Tensor,
    size: Size,
    stride: Size,
    padding: Size,
    dilation: Size,
    groups: int,
    bias: Tensor | None = None,
) -> Tensor:
    """The gradient of `conv` by x, of extents `size`: the transposed convolution of dy, with a bias
    by the channels of x.
    """
    reach = [
        (p - 1) * s - 2 * pad + d * (k - 1) + 1
        for p, s, pad, d, k in zip(
            dy.shape[2:], stride, padding, dilation, w.shape[2:], strict=True
        )
    ]
    # Where the last stride does not fit, the input is longer than the outputs tell.
    more = [h - r for h, r in zip(size[2:], reach, strict=True)]
    out: Tensor = torch.convolution(dy, w, bias, stride, padding, dilation, True, more, groups)
    return out


def conv_wgrad(
    dy: Tensor,
    x: Tensor,
    size: Size,
    strides: Size,
    stride: Size,
    padding: Size,
    dilation: Size,
    groups: int,
) -> Tensor:
    """The gradient of `conv` by w, of extents `size` and strides `strides`."""
    w = torch.empty_strided(size, strides, dtype=x.dtype, device=x.device)
    gradients = torch.ops.aten.convolution_backward(
        dy,
        x,
        w,
        None,
        stride,
        padding,
        dilation,
        False,
        [0] * len(stride),
        groups,
        [False, True, False],
    )
    return torch.empty_strided(size, strides, dtype=x.dtype, device=x.device).copy_(gradients[1])
