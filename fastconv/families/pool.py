"""Pooling: each output is made of a window of its own channel. Means, maxima and samples, fixed windows
and adaptive ones.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

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
from fastconv.words import ELEMENT_SIZE

__all__ = ["FAMILY", "PoolProblem"]

Array = npt.NDArray[np.float64]
#: Of maxima alone.
_INTEGERS = ("uint8", "int8")
_DTYPE = Word(dict(DTYPE.choices) | {name: {"dtype": name} for name in _INTEGERS}, DTYPE.default)


@dataclasses.dataclass(frozen=True)
class PoolProblem(Problem):
    """Windows of T x R x S over ``x[N,C,D,H,W]`` give ``y[N,C,Z,P,Q]``.

    ``Z``, ``P`` and ``Q`` are derived where they are not given (-1); in ceil mode, and with
    ``adaptive`` windows, they are given. The sum of a window is divided by `divisor`, or where that
    is 0 by the window's elements: those inside the padded image, or with
    ``count_include_pad=False`` inside the image. The `index` of a maximum is its place in the image
    (``i64``, as torch counts), or in the window (``u8``). A stochastic pool (``sto``) is one of the
    window's inputs, by a number u in [0, 1) an output: the first up to which the positive inputs sum
    to more than u times their sum; 0 where none is positive.
    """

    PARTS: ClassVar[tuple[Part, ...]] = (
        Extents("N"), Extents("C"), Extents("DHW"), Extents("TRS", least=1),
        Steps("st", "stride", 1, 1), Steps("pd", "pad", 0, 0),
        Steps("dl", "dilation", 1, 1, optional=True),
        Word({"avg": {"mode": "avg"}, "max": {"mode": "max"}, "sto": {"mode": "sto"}}),
        Word({"i64": {"index": "i64"}, "u8": {"index": "u8"}}, "i64"),
        Word({"fixed": {"adaptive": False}, "adapt": {"adaptive": True}}, "fixed"),
        Word({"incl": {"count_include_pad": True}, "excl": {"count_include_pad": False}}, "incl"),
        Number("div", "divisor", None, 0), Outputs(), _DTYPE, LAYOUT,
    )  # fmt: skip
    MARKS: ClassVar[tuple[str, ...]] = ("avg", "max", "sto")

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
    dilation_d: int = 1
    dilation_h: int = 1
    dilation_w: int = 1
    mode: str = "avg"
    index: str = "i64"
    adaptive: bool = False
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

    def check(self) -> None:
        """Raises ValueError naming the field that cannot be what it is."""
        super().check()
        steps = {f"{name}_{axis}" for name in ("stride", "dilation") for axis in "dhw"}
        window = {"T": 1, "R": 1, "S": 1, "pad_d": 0, "pad_h": 0, "pad_w": 0} | dict.fromkeys(
            steps, 1
        )
        means = {"divisor": 0, "count_include_pad": True}
        for holds, why, rest in (
            (self.mode == "avg", "of a mean", {f"dilation_{axis}": 1 for axis in "dhw"}),
            (self.mode == "avg" or self.adaptive, "without places in a window", {"index": "i64"}),
            (self.mode != "avg", "of no mean", means),
            (self.dtype in _INTEGERS, "of whole numbers", {"mode": "max"}),
            (self.adaptive, "of adaptive windows", window | means),
        ):
            for name, value in rest.items() if holds else ():
                if getattr(self, name) != value:
                    raise ValueError(f"{name} is {getattr(self, name)}; {why} it must be {value}")
        if self.index == "u8" and self.T * self.R * self.S > 255:
            raise ValueError("index is 'u8'; windows of more than 255 elements need 'i64'")

    def squeezed(self) -> tuple[Self, tuple[int, int, int]]:
        """Windows that divide the image evenly are no adaptive ones, and an image that is one window
        has one axis; the twin of `squeezed` in csrc/pool/problem.cc.
        """
        p = self
        axes = (("D", "T", "Z", "d"), ("H", "R", "P", "h"), ("W", "S", "Q", "w"))
        sizes = [(getattr(p, extent), getattr(p, out)) for extent, _, out, _ in axes]
        if p.adaptive and all(i > 0 and o > 0 and i % o == 0 for i, o in sizes):
            even: dict[str, Any] = {}
            for (_, window, _, axis), (i, o) in zip(axes, sizes, strict=True):
                even |= {window: i // o, f"stride_{axis}": i // o}
            p = p.replace(adaptive=False, **even)
        whole = not p.adaptive and all(
            getattr(p, out) == getattr(p, f"dilation_{axis}") == 1
            and getattr(p, f"pad_{axis}") == 0
            and getattr(p, window) == getattr(p, extent)
            for extent, window, out, axis in axes
        )
        if whole:
            pixels = p.D * p.H * p.W
            p = p.replace(
                D=1, H=1, W=pixels, T=1, R=1, S=pixels, stride_d=1, stride_h=1, stride_w=1
            )
        return p, (0, 1, 2)

    @property
    def flops(self) -> int:
        """An addition a tap; taps in the padding count as well."""
        return self.y_elements * self.accumulation_depth("fprop")

    @property
    def bytes(self) -> int:
        """Bytes of the operands, each counted once."""
        return ELEMENT_SIZE.get(self.dtype, 1) * (self.x_elements + self.y_elements)

    def accumulation_depth(self, direction: str) -> int:
        """The most inputs of a window; no input is in more windows than that."""
        if not self.adaptive:
            return self.T * self.R * self.S
        inputs, outputs = (self.D, self.H, self.W), (self.Z, self.P, self.Q)
        return math.prod(
            -(-i // o) + (i % o != 0) for i, o in zip(inputs, outputs, strict=True) if o
        )


_OPERANDS = {
    "fprop": (
        Operand("x", "activation", "x"),
        Operand("uniform", "activation", "y"),
        *epilogue("y"),
        Operand("index", "index", "y", written=True, optional=True),
        Operand("out", "activation", "y", written=True),
    ),
    "dgrad": (
        Operand("dy", "activation", "y"),
        Operand("index", "index", "y", optional=True),
        Operand("out", "activation", "x", written=True),
    ),
}


@dataclasses.dataclass(frozen=True)
class _Window:
    """What one output of an axis looks at: the inputs, and by which taps; `padded` counts those
    inside the padded axis.
    """

    inputs: npt.NDArray[np.int64]
    taps: npt.NDArray[np.int64]
    padded: int


def _windows(p: PoolProblem, axis: int) -> list[_Window]:
    """Of each output along depth, height or width (0, 1, 2)."""
    extent, window, outputs = (getattr(p, letters[axis]) for letters in ("DHW", "TRS", "ZPQ"))
    if p.adaptive:
        ends = [(o * extent // outputs, -(-(o + 1) * extent // outputs)) for o in range(outputs)]
        return [
            _Window(np.arange(*end), np.arange(end[1] - end[0]), end[1] - end[0]) for end in ends
        ]
    stride, pad, dilation = (
        getattr(p, f"{name}_{'dhw'[axis]}") for name in ("stride", "pad", "dilation")
    )
    found, taps = [], np.arange(window)
    for o in range(outputs):
        inputs = o * stride - pad + taps * dilation
        inside = (inputs >= 0) & (inputs < extent)
        padded = int((inputs < extent + pad).sum())
        found.append(_Window(inputs[inside], taps[inside], padded))
    return found


def _outputs(p: PoolProblem) -> Iterator[tuple[Any, Any, Any, float]]:
    """Each output (z, p, q) with its window as an index of the image, the indices of the window's
    inputs, and what a mean divides by.
    """
    axes = [list(enumerate(_windows(p, axis))) for axis in range(3)]
    for (z, d), (i, h), (j, w) in itertools.product(*axes):
        grid = np.ix_(d.inputs, h.inputs, w.inputs)
        numbers = [each.inputs if p.index == "i64" else each.taps for each in (d, h, w)]
        extents = (p.H, p.W) if p.index == "i64" else (p.R, p.S)
        t, r, s = np.ix_(*numbers)
        inside = len(d.inputs) * len(h.inputs) * len(w.inputs)
        counted = d.padded * h.padded * w.padded if p.count_include_pad else inside
        divisor = float(p.divisor or max(counted, 1))
        yield (z, i, j), grid, ((t * extents[0] + r) * extents[1] + s).ravel(), divisor


def _oracle(p: PoolProblem, direction: str, given: Mapping[str, Array]) -> Array:
    if direction == "dgrad":
        dx = np.zeros(p.extents("x"))
        for at, grid, numbers, divisor in _outputs(p):
            share = given["dy"][:, :, *at][..., None]
            if p.mode == "avg":
                share = np.broadcast_to(share / divisor, (*share.shape[:2], len(numbers)))
            else:
                share = np.where(given["index"][:, :, *at][..., None] == numbers, share, 0)
            dx[:, :, *grid] += share.reshape(*share.shape[:2], *(len(g.ravel()) for g in grid))
        return dx
    y = np.zeros(p.extents("y"))
    for at, grid, _, divisor in _outputs(p):
        window = given["x"][:, :, *grid]
        if p.mode == "avg":
            y[:, :, *at] = window.sum((2, 3, 4)) / divisor
        elif p.mode == "max":
            y[:, :, *at] = window.max((2, 3, 4))
        else:
            flat = window.reshape(p.N, p.C, math.prod(window.shape[2:]))
            place = _drawn(flat, given["uniform"][:, :, *at])
            y[:, :, *at] = np.maximum(np.take_along_axis(flat, place[..., None], 2)[..., 0], 0)
    return y


def _drawn(window: Array, uniform: Array) -> npt.NDArray[np.int64]:
    """Places in windows [N, C, inputs]: the first where the positive inputs sum to more than `uniform`
    of them all, else the last that is positive, else the first of all.
    """
    weight = np.maximum(window, 0)
    sums = weight.cumsum(2)
    enough = (sums > uniform[..., None] * sums[..., -1:]) & (weight > 0)
    last = weight.shape[2] - 1 - (weight > 0)[:, :, ::-1].argmax(2)
    place: npt.NDArray[np.int64] = np.where(enough.any(2), enough.argmax(2), last)
    return np.where(sums[..., -1] > 0, place, 0)


def _indices(p: PoolProblem, given: Mapping[str, Array]) -> npt.NDArray[np.int64]:
    """The first of the largest of each window, or the last NaN; of a sample what was drawn."""
    index = np.zeros(p.extents("y"), np.int64)
    for at, grid, numbers, _ in _outputs(p):
        window = given["x"][:, :, *grid].reshape(p.N, p.C, len(numbers))
        if p.mode == "sto":
            index[:, :, *at] = numbers[_drawn(window, given["uniform"][:, :, *at])]
            continue
        is_nan = np.isnan(window)
        last = is_nan.shape[2] - 1 - is_nan[:, :, ::-1].argmax(2)
        index[:, :, *at] = numbers[np.where(is_nan.any(2), last, window.argmax(2))]
    return index


def _window(p: PoolProblem) -> tuple[list[int], list[int], list[int], list[int]]:
    """Window, stride, padding and dilation as torch's ops take them."""
    first = 3 - axes_of(p)
    return (
        [p.T, p.R, p.S][first:],
        [p.stride_d, p.stride_h, p.stride_w][first:],
        [p.pad_d, p.pad_h, p.pad_w][first:],
        [p.dilation_d, p.dilation_h, p.dilation_w][first:],
    )


def _torch_ops(p: PoolProblem) -> tuple[str, tuple[Any, ...]]:
    """The op's name, and its arguments after the tensors."""
    axes, ceil = axes_of(p), not p.is_derived()
    if p.adaptive:
        name = f"adaptive_{p.mode}_pool{axes}d"
        return ("_" if p.mode == "avg" else "") + name, ([p.Z, p.P, p.Q][3 - axes :],)
    window, stride, padding, dilation = _window(p)
    if p.mode == "max":
        return f"max_pool{axes}d_with_indices", (window, stride, padding, dilation, ceil)
    means = (ceil, p.count_include_pad, p.divisor or None)
    return f"avg_pool{axes}d", (window, stride, padding, *means)


def _torch_call(p: PoolProblem, direction: str, t: Mapping[str, Tensor]) -> Call:
    name, options = _torch_ops(p)
    forward: Any = getattr(torch.ops.aten, name)
    if direction == "fprop":
        if p.mode == "max":
            return lambda: forward(t["x"], *options)[0]
        return lambda: forward(t["x"], *options)
    backward: Any = getattr(torch.ops.aten, f"{name}_backward")
    if p.mode == "max":
        index = forward(t["x"], *options)[1]
        if p.adaptive:
            return lambda: backward(t["dy"], t["x"], index)
        return lambda: backward(t["dy"], t["x"], *options, index)
    if p.adaptive:
        return lambda: backward(t["dy"], t["x"])
    return lambda: backward(t["dy"], t["x"], *options)


def _native_call(p: PoolProblem, direction: str, t: Mapping[str, Tensor], kernel: str) -> Call:
    ops: Any = torch.ops.fastconv
    options = _torch_ops(p)[1]
    name = f"{'adaptive_' if p.adaptive else ''}{p.mode}_pool"
    forward, backward = getattr(ops, name), getattr(ops, f"{name}_backward")
    words = () if p.mode == "avg" or p.adaptive else (p.index,)
    if direction == "fprop":
        if p.mode == "max":
            return lambda: forward(t["x"], *options, *words, kernel)[0]
        return lambda: forward(t["x"], *options, kernel)
    index = forward(t["x"], *options, *words)[1:] if p.mode == "max" else ()
    given = (t["x"].shape, p.x_layout == "nhwc", *(() if p.adaptive else options))
    return lambda: backward(t["dy"], *index, *given, kernel)


def _ceil_extent(extent: int, reach: int, stride: int, pad: int) -> int:
    """torch's outputs along an axis in ceil mode: no window begins past the image and its padding."""
    outputs = -(-(extent + 2 * pad - reach) // stride) + 1
    return outputs - 1 if (outputs - 1) * stride >= extent + pad else outputs


def _why_not_torch(p: PoolProblem) -> str | None:
    if p.mode == "sto":
        return "torch has no stochastic pooling"
    if p.adaptive:
        return None
    axes = [
        (out, extent, taps, (taps - 1) * dilation + 1, stride, pad)
        for out, extent, taps, dilation, stride, pad in (
            (p.Z, p.D, p.T, p.dilation_d, p.stride_d, p.pad_d),
            (p.P, p.H, p.R, p.dilation_h, p.stride_h, p.pad_h),
            (p.Q, p.W, p.S, p.dilation_w, p.stride_w, p.pad_w),
        )
    ]
    if any(2 * pad > taps for _, _, taps, *_, pad in axes):
        return "its padding must be at most half the window"
    if not p.is_derived() and any(
        out != _ceil_extent(extent, reach, stride, pad)
        for out, extent, _, reach, stride, pad in axes
    ):
        return "its outputs are those of neither mode"
    return None


def _is_exact(p: PoolProblem, direction: str) -> bool:
    """A quotient is a binary fraction where it is by a power of two."""
    return p.mode != "avg" or (p.divisor > 0 and p.divisor & (p.divisor - 1) == 0)


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
    shapes=Shapes("pool.txt", cuda="pool.txt", triton="pool_triton.txt"),
    sets={"pool": ("pool",)},
    indexed=lambda p: p.index if p.mode != "avg" else "",
    indices=_indices,
    has=lambda p, operand: operand.name != "uniform" or p.mode == "sto",
)
