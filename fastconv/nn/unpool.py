"""torch's unpooling layers, computed by fastconv: same constructors. No script compiles torch's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastconv import functional
from fastconv.families.unpool import UnpoolProblem
from fastconv.nn.leaf import Leaf
from fastconv.ops.layout import strides_like_channels_last
from fastconv.tensors import DTYPES, layout_of

__all__ = [
    "LAYERS",
    "OURS",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
    "direction_of",
    "problem_of",
]


class MaxUnpool1d(Leaf, torch.nn.MaxUnpool1d):
    """`torch.nn.MaxUnpool1d` by `fastconv.functional.max_unpool1d`, which tells shapes and dtypes."""

    def forward(
        self, input: Tensor, indices: Tensor, output_size: list[int] | None = None
    ) -> Tensor:
        return functional.max_unpool1d(
            input, indices, self.kernel_size, self.stride, self.padding, output_size
        )


class MaxUnpool2d(Leaf, torch.nn.MaxUnpool2d):
    """`torch.nn.MaxUnpool2d` by `fastconv.functional.max_unpool2d`, which tells shapes and dtypes."""

    def forward(
        self, input: Tensor, indices: Tensor, output_size: list[int] | None = None
    ) -> Tensor:
        return functional.max_unpool2d(
            input, indices, self.kernel_size, self.stride, self.padding, output_size
        )


class MaxUnpool3d(Leaf, torch.nn.MaxUnpool3d):
    """`torch.nn.MaxUnpool3d` by `fastconv.functional.max_unpool3d`, which tells shapes and dtypes."""

    def forward(
        self, input: Tensor, indices: Tensor, output_size: list[int] | None = None
    ) -> Tensor:
        return functional.max_unpool3d(
            input, indices, self.kernel_size, self.stride, self.padding, output_size
        )


#: Ours for each of torch's.
OURS: dict[type[torch.nn.Module], type[torch.nn.Module]] = {
    torch.nn.MaxUnpool1d: MaxUnpool1d,
    torch.nn.MaxUnpool2d: MaxUnpool2d,
    torch.nn.MaxUnpool3d: MaxUnpool3d,
}
LAYERS = tuple(OURS)


def direction_of(layer: Any) -> str:
    """Of a forward call."""
    return "fprop"


def problem_of(layer: Any, x: Tensor, y: Tensor) -> UnpoolProblem | None:
    """The problem of an unpooling called with ``x`` [N, C, ...], giving ``y``; None for other dtypes, and
    for an image without a batch.
    """
    axes = x.dim() - 2
    if x.dtype not in DTYPES or type(layer).__name__ != f"MaxUnpool{axes}d":
        return None
    if axes == 1:
        x, y = x.unsqueeze(-1), y.unsqueeze(-1)
    values: dict[str, Any] = {"N": x.shape[0], "C": x.shape[1]}
    for letters, t in (("DHW", x), ("ZPQ", y)):
        values |= dict(zip(letters, [1] * (5 - t.dim()) + list(t.shape[2:]), strict=True))
    last = axes < 3 and strides_like_channels_last(x.shape, x.stride())
    either = last and x.is_contiguous(memory_format=torch.channels_last)
    return UnpoolProblem(
        **values, dtype=DTYPES[x.dtype],
        x_layout="nhwc" if either else layout_of(x), y_layout="nhwc" if last else "nchw",
    )  # fmt: skip
