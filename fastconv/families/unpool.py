"""Unpooling: the way back from a maximum's outputs, each to the place that its index names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastconv.families.record import Call, Family, Operand, Shapes
from fastconv.problem_text import DTYPE, LAYOUT, Extents, Outputs, Part, Problem, Word
from fastconv.tensors import axes_of, in_layout
from fastconv.words import ELEMENT_SIZE

__all__ = ["FAMILY", "UnpoolProblem"]

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class UnpoolProblem(Problem):
    """``x[N,C,D,H,W]``, and an index beside each, give ``y[N,C,Z,P,Q]``, zero but where an index says
    so.

    An index counts in the image [Z, P, Q]; of those that are equal the last counts. Outputs that are
    not given (-1) are as many as inputs.
    """

    PARTS: ClassVar[tuple[Part, ...]] = (
        Extents("N"), Extents("C"), Extents("DHW"), Word({"unpool": {"mode": "unpool"}}),
        Outputs(), DTYPE, LAYOUT,
    )  # fmt: skip
    MARKS: ClassVar[tuple[str, ...]] = ("unpool",)

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
    pad_d: int = 0
    mode: str = "unpool"
    dtype: str = "f32"
    x_layout: str = "nhwc"
    y_layout: str = "nhwc"

    def _formula(self, extent: str, taps: str, axis: str) -> int:
        return int(getattr(self, extent))

    def check(self) -> None:
        """Raises ValueError naming the field that cannot be what it is."""
        super().check()
        for name, value in {"T": 1, "R": 1, "S": 1, "pad_d": 0}.items():
            if getattr(self, name) != value:
                raise ValueError(f"{name} is {getattr(self, name)}; without a window it is {value}")

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
        """Elements moved: there is no sum."""
        return self.x_elements

    @property
    def bytes(self) -> int:
        """Bytes of the operands, each counted once, with eight of each index."""
        return ELEMENT_SIZE[self.dtype] * (self.x_elements + self.y_elements) + 8 * self.x_elements

    def accumulation_depth(self, direction: str) -> int:
        """One."""
        return 1


_INDEX = Operand("index", "index", "x")
_OPERANDS = {
    "fprop": (
        Operand("x", "activation", "x"),
        _INDEX,
        Operand("out", "activation", "y", written=True),
    ),
    "dgrad": (
        Operand("dy", "activation", "y"),
        _INDEX,
        Operand("out", "activation", "x", written=True),
    ),
}


def _indices(p: UnpoolProblem, _: Any = None) -> npt.NDArray[np.int64]:
    """Of a problem the same: any places, each once where there are enough."""
    inputs, outputs = p.D * p.H * p.W, max(p.Z * p.P * p.Q, 1)
    places = np.broadcast_to(
        np.arange(max(inputs, outputs)) % outputs, (p.N * p.C, max(inputs, outputs))
    )
    drawn = np.random.default_rng(3).permuted(places, axis=1)[:, :inputs]
    return drawn.reshape(p.extents("x"))


def _oracle(p: UnpoolProblem, direction: str, given: Mapping[str, Array]) -> Array:
    images, inputs, outputs = p.N * p.C, p.D * p.H * p.W, p.Z * p.P * p.Q
    index = given["index"].reshape(images, inputs).astype(np.int64)
    if direction == "dgrad":
        dy = given["dy"].reshape(images, outputs)
        return np.take_along_axis(dy, index, 1).reshape(p.extents("x"))
    x = given["x"].reshape(images, inputs)
    y = np.zeros((images, outputs))
    for i in range(x.shape[1]):
        y[np.arange(images), index[:, i]] = x[:, i]
    return y.reshape(p.extents("y"))


def _index(p: UnpoolProblem, like: Tensor) -> Tensor:
    """The indices as torch takes them, that lie as `like`."""
    t = torch.from_numpy(_indices(p))
    t = t.reshape(*t.shape[:2], *t.shape[-axes_of(p) :]).to(like.device)
    return in_layout(t, "nchw" if like.is_contiguous() else "nhwc")


def _torch_call(p: UnpoolProblem, direction: str, t: Mapping[str, Tensor]) -> Call:
    axes = axes_of(p)
    if direction == "fprop":
        index, sizes = _index(p, t["x"]), [p.Z, p.P, p.Q][3 - axes :]
        rest = () if axes == 2 else ([1, 1, 1], [0, 0, 0])
        op: Any = getattr(torch.ops.aten, f"max_unpool{axes}d")
        return lambda: op(t["x"], index, sizes, *rest)
    index, flat = _index(p, t["dy"]), t["dy"].flatten(2)
    return lambda: flat.gather(2, index.flatten(2)).reshape(index.shape)


def _native_call(p: UnpoolProblem, direction: str, t: Mapping[str, Tensor], kernel: str) -> Call:
    ops: Any = torch.ops.fastconv
    if direction == "fprop":
        index, sizes = _index(p, t["x"]), [p.Z, p.P, p.Q][3 - axes_of(p) :]
        return lambda: ops.max_unpool(t["x"], index, sizes, kernel)
    index = _index(p, t["dy"])
    return lambda: ops.max_unpool_backward(t["dy"], index, kernel)


def _why_not_torch(p: UnpoolProblem) -> str | None:
    if p.D * p.H * p.W > p.Z * p.P * p.Q:
        return "which of equal indices counts depends on its threads"
    return None


FAMILY = Family(
    name="unpool",
    problem=UnpoolProblem,
    operands=_OPERANDS,
    oracle=_oracle,
    torch_call=_torch_call,
    native_call=_native_call,
    factors=1,
    is_exact=lambda p, direction: True,
    why_not_torch=_why_not_torch,
    shapes=Shapes("unpool.txt"),
    sets={},
    indexed=lambda p: "i64",
    indices=_indices,
)
