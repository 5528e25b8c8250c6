"""Pooling: each output is made of a window of its own channel. Averages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastconv.families.record import Call, Family, Operand, Shapes, epilogue
from fastconv.problem_text import (
    DTYPE,
    LAYOUT,
    Extents,
    Number,
    Outputs,
    Part,
    Problem,
    Steps,
    Word,
)
from fastconv.tensors import axes_of
from fastconv.testing.reference import taps
from fastconv.words import ELEMENT_SIZE

__all__ = ["FAMILY", "PoolProblem"]

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class PoolProblem(Problem):
    """Windows of T x R x S over ``x[N,C,D,H,W]`` give ``y[N,C,Z,P,Q]``.

    ``Z``, ``P`` and ``Q`` are derived where they are not given (-1); in ceil mode they are given.
    The sum of a window is divided by `divisor`, or where that is 0 by the window's elements: those
    inside the padded image, or with ``count_include_pad=False`` inside the image.
    """

    PARTS: ClassVar[tuple[Part, ...]] = (
        Extents("N"), Extents("C"), Extents("DHW"), Extents("TRS", least=1),
        Steps("st", "stride", 1, 1), Steps("pd", "pad", 0, 0),
        Word({"avg": {"mode": "avg"}}),
        Word({"incl": {"count_include_pad": True}, "excl": {"count_include_pad": False}}, "incl"),
        Number("div", "divisor", 0, 0), Outputs(), DTYPE, LAYOUT,
    )  # fmt: skip
    MARKS: ClassVar[tuple[str, ...]] = ("avg",)
    dilation_d: ClassVar[int] = 1
    dilation_h: ClassVar[int] = 1
    dilation_w: ClassVar[int] = 1

    N: int = 1
    C: int = 1
    D: int = 1
    H: int = 1
    W: int = 1
    T: int = 1
    R: int = 1
    S: int = 1
    Z: int = -1
    P: int = -1
    Q: int = -1
    stride_d: int = 1
    stride_h: int = 1
    stride_w: int = 1
    pad_d: int = 0
    pad_h: int = 0
    pad_w: int = 0
    mode: str = "avg"
    count_include_pad: bool = True
    divisor: int = 0
    dtype: str = "f32"
    x_layout: str = "nhwc"
    y_layout: str = "nhwc"

    @property
    def y_channels(self) -> int:
        """C."""
        return self.C

    @property
    def x_elements(self) -> int:
        return self.N * self.C * self.D * self.H * self.W

    @property
    def y_elements(self) -> int:
        return self.N * self.C * self.Z * self.P * self.Q

    @property
    def flops(self) -> int:
        """An addition a tap; taps in the padding count as well."""
        return self.y_elements * self.T * self.R * self.S

    @property
    def bytes(self) -> int:
        """Bytes of the operands, each counted once."""
        return ELEMENT_SIZE[self.dtype] * (self.x_elements + self.y_elements)

    def accumulation_depth(self, direction: str) -> int:
        """The taps of a window; no input is in more windows than that."""
        return self.T * self.R * self.S


_OPERANDS = {
    "fprop": (
        Operand("x", "activation", "x"),
        *epilogue("y"),
        Operand("out", "activation", "y", written=True),
    ),
    "dgrad": (Operand("dy", "activation", "y"), Operand("out", "activation", "x", written=True)),
}


def _counts(outputs: int, extent: int, window: int, stride: int, pad: int, include: bool) -> Array:
    """How many elements of each window along an axis count."""
    begin = np.arange(outputs) * stride - pad
    end = np.minimum(begin + window, extent + pad)
    if not include:
        begin, end = np.maximum(begin, 0), np.minimum(end, extent)
    return np.maximum(end - begin, 0).astype(np.float64)


def _divisors(p: PoolProblem) -> Array:
    """What each window's sum is divided by, [Z, P, Q]."""
    if p.divisor:
        return np.full((p.Z, p.P, p.Q), float(p.divisor))
    z, h, w = (
        _counts(outputs, extent, window, stride, pad, p.count_include_pad)
        for outputs, extent, window, stride, pad in (
            (p.Z, p.D, p.T, p.stride_d, p.pad_d),
            (p.P, p.H, p.R, p.stride_h, p.pad_h),
            (p.Q, p.W, p.S, p.stride_w, p.pad_w),
        )
    )
    return np.maximum(z[:, None, None] * h[:, None] * w, 1)


def _oracle(p: PoolProblem, direction: str, given: Mapping[str, Array]) -> Array:
    if direction == "fprop":
        y = np.zeros(p.extents("y"))
        for _, outs, ins in taps(p):
            y[:, :, *outs] += given["x"][:, :, *ins]
        return y / _divisors(p)
    dx, shares = np.zeros(p.extents("x")), given["dy"] / _divisors(p)
    for _, outs, ins in taps(p):
        dx[:, :, *ins] += shares[:, :, *outs]
    return dx


def _options(p: PoolProblem) -> tuple[Any, ...]:
    """The arguments of torch's averages after the tensors."""
    first = 3 - axes_of(p)
    return (
        [p.T, p.R, p.S][first:],
        [p.stride_d, p.stride_h, p.stride_w][first:],
        [p.pad_d, p.pad_h, p.pad_w][first:],
        not p.is_derived(),
        p.count_include_pad,
        p.divisor or None,
    )


def _torch_call(p: PoolProblem, direction: str, t: Mapping[str, Tensor]) -> Call:
    axes, aten, options = axes_of(p), torch.ops.aten, _options(p)
    if direction == "fprop":
        forward: Any = getattr(aten, f"avg_pool{axes}d")
        return lambda: forward(t["x"], *options)
    backward: Any = getattr(aten, f"avg_pool{axes}d_backward")
    return lambda: backward(t["dy"], t["x"], *options)


def _native_call(p: PoolProblem, direction: str, t: Mapping[str, Tensor], kernel: str) -> Call:
    ops: Any = torch.ops.fastconv
    options = (*_options(p), kernel)
    if direction == "fprop":
        return lambda: ops.avg_pool2d(t["x"], *options)
    return lambda: ops.avg_pool2d_backward(t["dy"], t["x"], *options)


def _ceil_extent(extent: int, window: int, stride: int, pad: int) -> int:
    """torch's outputs along an axis in ceil mode: no window begins past the image and its padding."""
    outputs = -(-(extent + 2 * pad - window) // stride) + 1
    return outputs - 1 if (outputs - 1) * stride >= extent + pad else outputs


def _why_not_torch(p: PoolProblem) -> str | None:
    axes = (
        (p.Z, p.D, p.T, p.stride_d, p.pad_d),
        (p.P, p.H, p.R, p.stride_h, p.pad_h),
        (p.Q, p.W, p.S, p.stride_w, p.pad_w),
    )
    if any(2 * pad > window for _, _, window, _, pad in axes):
        return "its padding must be at most half the window"
    if not p.is_derived() and any(out != _ceil_extent(*rest) for out, *rest in axes):
        return "its outputs are those of neither mode"
    return None


def _is_exact(p: PoolProblem, direction: str) -> bool:
    """A quotient is a binary fraction where it is by a power of two."""
    return p.divisor > 0 and p.divisor & (p.divisor - 1) == 0


FAMILY = Family(
    name="pool",
    problem=PoolProblem,
    operands=_OPERANDS,
    oracle=_oracle,
    torch_call=_torch_call,
    native_call=_native_call,
    factors=1,
    is_exact=_is_exact,
    why_not_torch=_why_not_torch,
    shapes=Shapes("pool.txt"),
    sets={},
)
