"""torch's pooling layers, computed by fastconv."""

from __future__ import annotations

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._jit_internal import is_scripting

from fastconv.families.pool import PoolProblem
from fastconv.functional import avg_pool2d
from fastconv.nn.leaf import pass_for_torchs
from fastconv.ops.layout import strides_like_channels_last
from fastconv.tensors import DTYPES, layout_of

__all__ = ["OURS", "AvgPool2d", "direction_of", "problem_of"]


class AvgPool2d(torch.nn.AvgPool2d):
    """`torch.nn.AvgPool2d` on fastconv's kernels: same constructor."""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        self = super().__new__(cls)
        pass_for_torchs(self)
        return self

    def forward(self, input: Tensor) -> Tensor:
        """input [N, C, H, W] or [C, H, W] -> [N, C, P, Q] or [C, P, Q]."""
        if is_scripting():
            return F.avg_pool2d(
                input, self.kernel_size, self.stride, self.padding, self.ceil_mode,
                self.count_include_pad, self.divisor_override,
            )  # fmt: skip
        else:
            return avg_pool2d(
                input, self.kernel_size, self.stride, self.padding, self.ceil_mode,
                self.count_include_pad, self.divisor_override,
            )  # fmt: skip


#: Ours for each of torch's.
OURS: dict[type[torch.nn.Module], type[torch.nn.Module]] = {torch.nn.AvgPool2d: AvgPool2d}


def direction_of(layer: Any) -> str:
    """Of a forward call."""
    return "fprop"


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def problem_of(layer: Any, x: Tensor, y: Tensor) -> PoolProblem | None:
    """The problem of an `AvgPool2d` called with ``x`` [N,C,H,W], giving ``y``; None for other dtypes
    and for an image without a batch.
    """
    if x.dtype not in DTYPES or x.dim() != 4:
        return None
    (r, s), (stride_h, stride_w), (pad_h, pad_w) = map(
        _pair, (layer.kernel_size, layer.stride, layer.padding)
    )
    last = strides_like_channels_last(x.shape, x.stride())
    out = "nhwc" if last else "nchw"
    either = x.is_contiguous(memory_format=torch.channels_last)
    return PoolProblem(
        N=x.shape[0], C=x.shape[1], H=x.shape[2], W=x.shape[3], R=r, S=s, P=y.shape[2], Q=y.shape[3],
        stride_h=stride_h, stride_w=stride_w, pad_h=pad_h, pad_w=pad_w, mode="avg",
        count_include_pad=layer.count_include_pad, divisor=layer.divisor_override or 0,
        dtype=DTYPES[x.dtype], x_layout="nhwc" if either and last else layout_of(x), y_layout=out,
    )  # fmt: skip
