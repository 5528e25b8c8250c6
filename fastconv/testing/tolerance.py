"""The one table of tolerances: no test has a number of its own.

A bound is ``factor * growth(depth) * eps(accumulator) * scale`` absolute, plus ``2 * eps(output)``
relative, where
``depth`` counts the products of one output and ``scale`` is the largest product that can occur. The
factors were
fixed from measured errors over the shape set; loosening one is a change of its own with its reason.
``csrc/tools`` has the same table (`tests/test_words.py` compares them).
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastconv.problem_text import Problem

if TYPE_CHECKING:
    from torch import Tensor

#: Half the distance from 1 to the next number: the largest relative error of one rounding.
EPSILON = {"f32": 2.0**-24, "f64": 2.0**-53, "bf16": 2.0**-8, "f16": 2.0**-11}
#: How a class's error compares with that of plain sums of the same depth (docs/numerics.md).
FACTOR = {"exact": 6.0, "winograd_f2": 8.0, "winograd_f4": 20.0, "tf32": 6.0 + 2.0**14}
#: Products of the blocks that long sums are made of on the CPU (csrc/core/cpu/long_sum.h).
BLOCK = 512
#: Products that are still summed in one chain there.
LONGEST_CHAIN = 9 * BLOCK
#: The largest sum that integers may reach for every order of summation to be exact.
EXACT_LIMIT = {"f32": 2**24, "f64": 2**53, "bf16": 2**8, "f16": 2**11}


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """``|have - want| <= atol + rtol * |want|``."""

    atol: float
    rtol: float

    def violations(
        self, have: npt.NDArray[Any], want: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """Where ``have`` is outside; a NaN or infinity on one side alone is."""
        with np.errstate(invalid="ignore"):
            error = np.abs(have.astype(np.float64) - want)
        same = (have == want) | (np.isnan(have) & np.isnan(want))
        outside: npt.NDArray[np.bool_] = ~same & ~(error <= self.atol + self.rtol * np.abs(want))
        return outside

    def outside(self, have: Tensor, want: Tensor) -> Tensor:
        """As `violations`, on the tensors' device; ``want`` is in float64 and finite."""
        error = (have.detach().double() - want).abs()
        return ~(error <= self.atol + self.rtol * want.abs())


def accumulator(dtype: str) -> str:
    """The type sums are kept in: float64 for float64, else float32."""
    return "f64" if dtype == "f64" else "f32"


def growth(depth: int, blocked: bool = False) -> float:
    """How the error of a sum of ``depth`` independent products grows, in roundings of one product.

    The products' own roundings add up like a random walk, with the root of the depth. Each addition
    into one running sum rounds by that sum's size, which itself grows with the root: together
    linear, with a small constant. Uniform inputs give 0.096 * depth as the root of the mean square,
    and about eleven times that at worst among a million.

    With ``blocked``, sums of more than `LONGEST_CHAIN` are made of chains of `BLOCK`: the errors of
    the blocks' chains add up with the root of their number, and one chain of as many additions
    joins the blocks.
    """
    if not blocked or depth <= LONGEST_CHAIN:
        return math.sqrt(depth) + depth / 3
    blocks = depth / BLOCK
    joined = math.sqrt(blocks) * BLOCK / 3 + blocks * math.sqrt(BLOCK) / 3
    return math.sqrt(depth) + joined


def real(
    problem: Problem,
    direction: str,
    numerics: str = "exact",
    scale: float = 1.0,
    blocked: bool = False,
) -> Tolerance:
    """The bound for real inputs whose products are at most ``scale``, against the same sums in
    float64; ``blocked`` for the CPU's rows.

    For a float64 problem the yardstick itself rounds as often: the bound counts both.
    """
    depth = max(problem.accumulation_depth(direction), 1)
    atol = FACTOR[numerics] * growth(depth, blocked) * EPSILON[accumulator(problem.dtype)] * scale
    return Tolerance(atol * (2 if problem.dtype == "f64" else 1), 2 * EPSILON[problem.dtype])


def is_exact_on_integers(dtype: str, numerics: str, largest_sum: float) -> bool:
    """Whether integer inputs must give equal results: true sums, and transforms that are exact in
    binary.

    The filter's transform of F(4x4) has constants that are no binary fractions. F(2x2) halves
    twice; its intermediate sums are up
    to four times as large.
    """
    if numerics == "winograd_f4":
        return False
    room = 16 if numerics == "winograd_f2" else 1
    return largest_sum * room <= EXACT_LIMIT[dtype]
