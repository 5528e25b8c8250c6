"""Seeded operands for a problem, and arrays inside guarded memory."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv.problem import ConvProblem

Array = npt.NDArray[Any]
NUMPY_DTYPE: dict[str, np.dtype[Any]] = {
    "f32": np.dtype("f4"),
    "f64": np.dtype("f8"),
    "f16": np.dtype("f2"),
    "bf16": np.dtype("u2"),
}
_GUARD = 256  # bytes on each side of an array, beyond the widest vector
_SENTINEL = 0xA5


def to_bits(values: npt.NDArray[np.float64], dtype: str) -> Array:
    """``values`` rounded to nearest even in ``dtype``; bfloat16 as its bits in uint16."""
    if dtype != "bf16":
        return values.astype(NUMPY_DTYPE[dtype])
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bits(array: Array, dtype: str) -> npt.NDArray[np.float64]:
    """The way back, to float64."""
    if dtype == "bf16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)


class Guarded:
    """A C-contiguous array of NaN between two bands, ``offset`` elements off a 64-byte boundary.

    The bands of an output hold sentinels (``intact``); those of an input NaN, so that a value read
    there shows.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int = 0, band: int = _SENTINEL
    ) -> None:
        count = int(np.prod(shape, dtype=np.int64))
        self._band = band
        self._memory = np.full(count * dtype.itemsize + 2 * _GUARD + 128, band, np.uint8)
        start = -self._memory.ctypes.data % 64 + _GUARD + offset * dtype.itemsize
        self._inside = slice(start, start + count * dtype.itemsize)
        self._memory[self._inside] = 0xFF  # NaN in every floating type
        self.array: Array = self._memory[self._inside].view(dtype).reshape(shape)

    def intact(self) -> bool:
        """Whether nothing was written outside the array."""
        before, after = self._memory[: self._inside.start], self._memory[self._inside.stop :]
        return bool((before == self._band).all() and (after == self._band).all())


def guarded_copy(array: Array, offset: int = 0) -> Array:
    """``array`` copied between bands of NaN."""
    guarded = Guarded(array.shape, array.dtype, offset, band=0xFF)
    guarded.array[...] = array
    return guarded.array


def activation_shape(p: ConvProblem, operand: str) -> tuple[int, ...]:
    """The extents of ``"x"`` or ``"y"`` as an array in the problem's layout, with the depth axis."""
    channels, spatial, layout = (
        (p.C, (p.D, p.H, p.W), p.x_layout) if operand == "x" else (p.K, (p.Z, p.P, p.Q), p.y_layout)
    )
    return (p.N, channels, *spatial) if layout == "nchw" else (p.N, *spatial, channels)


def to_layout(array: Array, layout: str) -> Array:
    """[N,C,D,H,W] as a dense array in ``layout``."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1) if layout == "nhwc" else array)


def from_layout(array: Array, layout: str) -> Array:
    """The way back to [N,C,D,H,W]."""
    return np.moveaxis(array, -1, 1) if layout == "nhwc" else array


@dataclasses.dataclass(frozen=True)
class Operands:
    """x [N,C,D,H,W], w [K,C/groups,T,R,S] and dy [N,K,Z,P,Q], exact in the problem's dtype."""

    x: npt.NDArray[np.float64]
    w: npt.NDArray[np.float64]
    dy: npt.NDArray[np.float64]
    largest: float  # bound of their absolute values


def operands(p: ConvProblem, integers: bool, seed: int = 0) -> Operands:
    """Integers in [-2, 2], or reals in [-1, 1] rounded to the problem's dtype."""
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> npt.NDArray[np.float64]:
        if integers:
            return random.integers(-2, 2, shape, endpoint=True).astype(np.float64)
        return from_bits(to_bits(random.uniform(-1, 1, shape), p.dtype), p.dtype)

    return Operands(
        draw(p.N, p.C, p.D, p.H, p.W),
        draw(p.K, p.C_per_group, p.T, p.R, p.S),
        draw(p.N, p.K, p.Z, p.P, p.Q),
        2.0 if integers else 1.0,
    )
