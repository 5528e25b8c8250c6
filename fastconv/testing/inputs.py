"""Seeded operands for a problem, and arrays inside guarded memory."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv import families
from fastconv.families.record import Operand
from fastconv.problem_text import Problem

Array = npt.NDArray[Any]
NUMPY_DTYPE: dict[str, np.dtype[Any]] = {
    "f32": np.dtype("f4"),
    "f64": np.dtype("f8"),
    "f16": np.dtype("f2"),
    "bf16": np.dtype("u2"),
}
INDEX_DTYPE: dict[str, np.dtype[Any]] = {"i64": np.dtype("i8"), "u8": np.dtype("u1")}
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


def activation_shape(p: Problem, side: str) -> tuple[int, ...]:
    """The extents of ``"x"`` or ``"y"`` as an array in the problem's layout, with the depth axis."""
    n, channels, *axes = p.extents(side)
    return (n, channels, *axes) if p.layout(side) == "nchw" else (n, *axes, channels)


def to_layout(array: Array, layout: str) -> Array:
    """[N,C,D,H,W] as a dense array in ``layout``."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1) if layout == "nhwc" else array)


def from_layout(array: Array, layout: str) -> Array:
    """The way back to [N,C,D,H,W]."""
    return np.moveaxis(array, -1, 1) if layout == "nhwc" else array


def store(
    values: npt.NDArray[np.float64],
    operand: Operand,
    p: Problem,
    offset: int = 0,
    last: bool = False,
) -> Array:
    """Values by the operand's extents as native calls take them, between bands of NaN.

    Args:
        last: a weight [K, C/groups, T, R, S] lies as krsc, else as kcrs.
    """
    if operand.kind == "channels":
        return values.astype(wide(p))
    if operand.kind == "index":
        whole = values.astype(INDEX_DTYPE[families.of(p).indexed(p)])
        return guarded_copy(to_layout(whole, p.layout(operand.side)))
    bits = to_bits(values, p.dtype)
    if operand.kind == "activation":
        return guarded_copy(to_layout(bits, p.layout(operand.side)), offset)
    if not last:
        return guarded_copy(bits, offset)
    return np.moveaxis(guarded_copy(to_layout(bits, "nhwc"), offset), -1, 1)


def room(
    operand: Operand, p: Problem, offset: int = 0, last: bool = False
) -> tuple[Guarded, Array]:
    """Guarded memory for what a call writes, and the array that the call takes."""
    dtype = NUMPY_DTYPE[p.dtype]
    if operand.kind == "index":
        dtype = INDEX_DTYPE[families.of(p).indexed(p)]
    if operand.kind in ("activation", "index"):
        guarded = Guarded(activation_shape(p, operand.side), dtype, offset)
        return guarded, guarded.array
    shape = operand.extents(p)
    if not last:
        guarded = Guarded(shape, dtype, offset)
        return guarded, guarded.array
    guarded = Guarded((shape[0], *shape[2:], shape[1]), dtype, offset)
    return guarded, np.moveaxis(guarded.array, -1, 1)


def load(array: Array, operand: Operand, p: Problem) -> npt.NDArray[Any]:
    """What a call wrote, by the operand's extents, also where it left out axes of extent 1."""
    values = array.astype(np.int64) if operand.kind == "index" else from_bits(array, p.dtype)
    if operand.kind in ("activation", "index"):
        values = from_layout(values, p.layout(operand.side))
    return values.reshape(operand.extents(p))


def wide(p: Problem) -> np.dtype[Any]:
    """The type of a number per channel: the sums'."""
    return NUMPY_DTYPE["f64" if p.dtype == "f64" else "f32"]


@dataclasses.dataclass(frozen=True)
class Operands:
    """What a family's directions read, by name or as an attribute, exact in the problem's dtype: for
    convolution x [N,C,D,H,W], w [K,C/groups,T,R,S] and dy [N,K,Z,P,Q].
    """

    values: dict[str, npt.NDArray[np.float64]]
    largest: float  # bound of their absolute values

    def __getattr__(self, name: str) -> npt.NDArray[np.float64]:
        if name == "values" or name not in self.values:
            raise AttributeError(name)
        return self.values[name]


def draw(
    random: np.random.Generator, shape: tuple[int, ...], dtype: str, integers: bool
) -> npt.NDArray[np.float64]:
    """Integers in [-2, 2], or reals in [-1, 1] rounded to `dtype`."""
    if integers:
        return random.integers(-2, 2, shape, endpoint=True).astype(np.float64)
    return from_bits(to_bits(random.uniform(-1, 1, shape), dtype), dtype)


def operands(p: Problem, integers: bool, seed: int = 0) -> Operands:
    """Integers in [-2, 2], or reals in [-1, 1] rounded to the problem's dtype."""
    random, family = np.random.default_rng(seed), families.of(p)
    values = {
        each.name: draw(random, each.extents(p), p.dtype, integers) for each in family.drawn()
    }
    if family.indices and family.indexed(p):
        values["index"] = family.indices(p, values)
    return Operands(values, 2.0 if integers else 1.0)


def stored(p: Problem, direction: str, data: Operands) -> dict[str, Array]:
    """What a call of the direction takes of `data`, dense."""
    return {
        each.name: store(data.values[each.name], each, p)
        for each in families.of(p).inputs(direction, p)
    }
