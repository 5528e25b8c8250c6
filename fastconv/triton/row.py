"""A Triton kernel's row: what a file of this folder exports, the twin of a row of kernels.inc."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from fastconv.problem import ConvProblem
from fastconv.problem_text import Problem
from fastconv.words import ACTIVATIONS

__all__ = [
    "INDEXABLE",
    "Args",
    "Config",
    "Row",
    "exact_and_tf32",
    "why_not_operands",
    "why_not_product",
]

#: The largest number that kernels count to.
INDEXABLE = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Config:
    """One point of a kernel's tuning space.

    `blocks` are the kernel's own constants, by name. Launches with a loop over flattened filter taps
    stay at 4 warps: with 8, Triton has been seen to compile them wrongly.
    """

    blocks: Mapping[str, int]
    num_warps: int = 4
    num_stages: int = 3

    def launch(self) -> dict[str, int]:
        """What a launch takes: the constants and the compiler's options."""
        return {**self.blocks, "num_warps": self.num_warps, "num_stages": self.num_stages}


@dataclasses.dataclass(frozen=True)
class Args:
    """The operands of one call by the names of `fastconv.families.record.Operand`, as torch's tensors
    on one device.

    Activations are dense in the problem's layout, with one to three spatial axes as the caller has
    them: kernels go by their addresses. The weight is a view [K, C/groups, T, R, S] of any strides.
    fprop reads x (and w) and writes out = y; dgrad reads dy (and w) and writes out = dx; wgrad reads
    x, dy and writes out = dw, a view as the weight is. Every element of `out` is written.
    `index`, int64 or uint8 by the problem, lies as y: a maximum's fprop writes it where it is asked
    for, and its dgrad reads it. scale and shift hold one float32 (float64 for float64) per output
    channel, residual lies as out.
    """

    out: Tensor
    x: Tensor | None = None
    dy: Tensor | None = None
    w: Tensor | None = None
    index: Tensor | None = None
    scale: Tensor | None = None
    shift: Tensor | None = None
    residual: Tensor | None = None
    activation: str = "none"

    def epilogue(self) -> dict[str, object]:
        """The arguments of `epilogue.finish`; the input stands for what is absent and never read."""
        source = self.dy if self.x is None else self.x
        return {
            "p_scale": source if self.scale is None else self.scale,
            "p_shift": source if self.shift is None else self.shift,
            "p_residual": source if self.residual is None else self.residual,
            "HAS_SCALE": self.scale is not None,
            "HAS_SHIFT": self.shift is not None,
            "HAS_RESIDUAL": self.residual is not None,
            "ACTIVATION": ACTIVATIONS.index(self.activation),
        }


@dataclasses.dataclass(frozen=True)
class Row:
    """One kernel: its name, what its sums are worth, what it refuses, and how it runs.

    Attributes:
        why_not: None where the kernel takes the problem, else the reason in words.
        run: launches on the operands; allocates its workspace through torch alone.
        configs: the tuning space for a problem, the choice without tuning first.
    """

    name: str
    direction: str
    numerics: str
    algorithm: str
    why_not: Callable[[Any], str | None]
    run: Callable[[Any, Args, Config], None]
    configs: Callable[[Any], tuple[Config, ...]]
    target: str = "triton"

    @property
    def family(self) -> str:
        """What its name begins with."""
        return self.name.partition("_")[0]


def why_not_operands(
    p: Problem, dtypes: tuple[str, ...], layout: str | None = "nhwc"
) -> str | None:
    """Why a kernel for these dtypes, and for activations in `layout` alone, refuses the problem."""
    if p.dtype not in dtypes:
        return f"the dtype is not one of {', '.join(dtypes)}"
    if layout is not None and (p.x_layout, p.y_layout) != (layout, layout):
        return f"activations are not {layout}"
    operands = (p.extents("x"), p.weight_extents, p.extents("y"))
    if max(math.prod(extents) for extents in operands) > INDEXABLE:
        return "an operand has 2^31 elements or more"
    if p.reach > INDEXABLE // 2:
        return "a stride, padding or dilation reaches 2^30 pixels or more"
    return None


def why_not_product(p: ConvProblem) -> str | None:
    """Why a kernel of matrix products over channels refuses the problem."""
    if p.is_depthwise:
        return "a group has one channel: there is no matrix product"
    return why_not_operands(p, ("f32", "bf16", "f16"))


def exact_and_tf32(
    direction: str,
    algorithm: str,
    why_not: Callable[[ConvProblem], str | None],
    run: Callable[[ConvProblem, Args, Config, str], None],
    configs: Callable[[ConvProblem, str], tuple[Config, ...]],
) -> tuple[Row, Row]:
    """The two rows of a kernel of matrix products with channels last: float32 in TF32, and every
    dtype that `why_not` takes by exact products.

    The last argument of `run` and `configs` is the precision of float32 products: "tf32" or "ieee".
    """

    def why_not_tf32(p: ConvProblem) -> str | None:
        return "the dtype is not f32" if p.dtype != "f32" else why_not(p)

    def row(numerics: str, name: str, refuses: Callable[[ConvProblem], str | None]) -> Row:
        precision = "tf32" if numerics == "tf32" else "ieee"
        return Row(
            f"conv_{direction}_{name}_nhwc_triton",
            direction,
            numerics,
            algorithm,
            refuses,
            lambda p, args, config: run(p, args, config, precision),
            lambda p: configs(p, precision),
        )

    return row("tf32", f"{algorithm}_tf32", why_not_tf32), row("exact", algorithm, why_not)
