"""One convolution, in the field's letters: the record that tables, tests, benchmarks and logs
share.

Mirrors ``csrc/core/problem.h``: both sides write and read the same text
(``tests/test_problem.py``).
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, Self

from fastconv.problem_text import (
    DTYPE,
    LAYOUT,
    Extents,
    Number,
    Outputs,
    Part,
    Problem,
    Steps,
    output_extent,
)
from fastconv.words import ELEMENT_SIZE, LAYOUTS

__all__ = ["DIRECTIONS", "ELEMENT_SIZE", "LAYOUTS", "ConvProblem", "Direction", "output_extent"]

Direction = Literal["fprop", "dgrad", "wgrad"]
DIRECTIONS: tuple[Direction, ...] = ("fprop", "dgrad", "wgrad")


#: What each axis is, outermost first.
_AXES = tuple(
    (extent, taps, outputs, f"stride_{axis}", f"pad_{axis}", f"dilation_{axis}")
    for extent, taps, outputs, axis in ("DTZd", "HRPh", "WSQw")
)


@dataclasses.dataclass(frozen=True)
class _Axis:
    """One axis of a problem; by default, one that carries nothing."""

    extent: int = 1
    taps: int = 1
    outputs: int = 1
    stride: int = 1
    pad: int = 0
    dilation: int = 1

    def is_empty(self) -> bool:
        return self.extent == self.taps == self.outputs == 1 and self.pad == 0

    def is_passed(self) -> bool:
        """Output i reads input i alone."""
        same = self.extent == self.outputs
        return self.taps == self.stride == 1 and self.pad == 0 and same

    def times(self, outer: _Axis) -> _Axis:
        """This axis and the one outside it as one, both passed."""
        extent = self.extent * outer.extent
        return dataclasses.replace(self, extent=extent, outputs=extent)


@dataclasses.dataclass(frozen=True)
class ConvProblem(Problem):
    """A convolution: ``x[N,C,D,H,W]`` with ``w[K,C/groups,T,R,S]`` gives ``y[N,K,Z,P,Q]``.

    ``Z``, ``P`` and ``Q`` are derived where they are not given (-1); give them for uneven padding.
    1-d and 2-d problems have ``D = T = Z = 1`` and ``pad_d = 0`` (and so for ``H``, ``R``, ``P`` and
    ``pad_h``). Padding may be negative.
    ``dilation`` is torch's: 1 means dense.
    """

    PARTS: ClassVar[tuple[Part, ...]] = (
        Extents("N"), Extents("C"), Extents("DHW"), Extents("K"), Extents("TRS"),
        Steps("st", "stride", 1, 1), Steps("pd", "pad", 0), Steps("dl", "dilation", 1, 1),
        Number("g", "groups", 1), Outputs(), DTYPE, LAYOUT,
    )  # fmt: skip
    MARKS: ClassVar[tuple[str, ...]] = ("k",)

    N: int = 1
    C: int = 1
    D: int = 1
    H: int = 1
    W: int = 1
    K: int = 1
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
    groups: int = 1
    dtype: str = "f32"
    x_layout: str = "nhwc"
    y_layout: str = "nhwc"

    def check(self) -> None:
        """As the base's; groups divide the channels of both sides."""
        super().check()
        for name in ("C", "K"):
            if getattr(self, name) % self.groups:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it must be divisible by groups = {self.groups}"
                )

    @property
    def C_per_group(self) -> int:
        return self.C // self.groups

    @property
    def K_per_group(self) -> int:
        return self.K // self.groups

    @property
    def taps(self) -> int:
        return self.T * self.R * self.S

    @property
    def x_elements(self) -> int:
        return self.N * self.C * self.D * self.H * self.W

    @property
    def w_elements(self) -> int:
        return self.K * self.C_per_group * self.taps

    @property
    def y_elements(self) -> int:
        return self.N * self.K * self.Z * self.P * self.Q

    @property
    def flops(self) -> int:
        """Operations of the direct sums, one direction; padding taps count as well."""
        return 2 * self.y_elements * self.C_per_group * self.taps

    @property
    def bytes(self) -> int:
        """Bytes of the operands, each counted once."""
        return ELEMENT_SIZE[self.dtype] * (self.x_elements + self.w_elements + self.y_elements)

    @property
    def is_depthwise(self) -> bool:
        return self.groups == self.C and self.groups > 1

    @property
    def y_channels(self) -> int:
        """K."""
        return self.K

    @property
    def weight_extents(self) -> tuple[int, ...]:
        """[K, C/groups, T, R, S]."""
        return self.K, self.C_per_group, self.T, self.R, self.S

    @property
    def transform_depth(self) -> int:
        """Products that Winograd's kernels sum, in the direction that sums more."""
        return max(self.C_per_group, self.K_per_group) * self.R * self.S

    def squeezed(self) -> tuple[Self, tuple[int, int, int]]:
        """As the base's; the twin of `squeezed` in csrc/conv/problem.cc."""
        axes = [_Axis(*(getattr(self, name) for name in names)) for names in _AXES]
        order, N = [0, 1, 2], self.N

        def move(source: int, to: int) -> None:
            axes[source], axes[to] = _Axis(), axes[source]
            order[source], order[to] = order[to], order[source]

        for to in (2, 1, 0):  # an empty axis takes the nearest one outside it
            if axes[to].is_empty():
                axes[to] = _Axis()
                source = next((i for i in range(to - 1, -1, -1) if not axes[i].is_empty()), None)
                if source is not None:
                    move(source, to)
        depth, height, width = axes
        if not depth.is_empty():
            if depth.is_passed() and height.is_passed():
                axes[:2] = _Axis(), height.times(depth)
            elif height.is_passed() and width.is_passed():
                axes[1:] = _Axis(), width.times(height)
                move(0, 1)
            elif depth.is_passed() and self.x_layout == self.y_layout == "nhwc":
                axes[0], N = _Axis(), self.N * depth.extent
        changes = {
            name: value
            for names, axis in zip(_AXES, axes, strict=True)
            for name, value in zip(names, dataclasses.astuple(axis), strict=True)
        }
        return self.replace(N=N, **changes), (order[0], order[1], order[2])

    def accumulation_depth(self, direction: str) -> int:
        """How many products one output of ``direction`` sums."""
        if direction == "fprop":
            return self.C_per_group * self.taps
        if direction == "dgrad":
            return self.K_per_group * self.taps
        return self.N * self.Z * self.P * self.Q
