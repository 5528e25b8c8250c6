"""The words that every family's problems, rows and calls are made of: the one place in Python.

They stand in the order of the enumerations of ``csrc`` (``tests/test_words.py``), whose numbers are
their places.
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "ACTIVATIONS",
    "ELEMENT_SIZE",
    "LAYOUTS",
    "NUMERICS",
    "PRECISIONS",
    "why_too_inexact",
]

#: Bytes of an element of each dtype.
ELEMENT_SIZE = {"f32": 4, "f64": 8, "bf16": 2, "f16": 2}
#: Of activations; with a depth axis NCDHW and NDHWC.
LAYOUTS = ("nchw", "nhwc")
#: What an epilogue may end with.
ACTIVATIONS = ("none", "relu", "relu6", "hardswish", "silu", "sigmoid")
#: What a kernel's sums are worth; `fastconv.testing.tolerance` has the bounds.
NUMERICS = ("exact", "winograd_f2", "winograd_f4", "tf32")
#: How far the choice may go from the plain sums.
PRECISIONS = ("exact", "high", "fast")

Precision = Literal["exact", "high", "fast"]

#: Winograd's bound grows with the root of the depth; beyond this depth it leaves the tolerance of
#: precision "high" (docs/numerics.md).
_HIGH_DEPTH = 16384


def why_too_inexact(numerics: str, depth: int, precision: str, allow_tf32: bool) -> str | None:
    """Why sums of a class are not exact enough; None where they are.

    Args:
        depth: products summed in a transformed space, whose error grows with them.
        allow_tf32: torch's switch for the products of float32.
    """
    if numerics == "exact":
        return None
    if numerics == "tf32":
        if precision == "exact":
            return "precision is 'exact', which takes no TF32"
        return None if allow_tf32 else "torch's switch for convolutions in TF32 is off"
    if precision == "exact":
        return "precision is 'exact', which takes no Winograd"
    if precision == "high" and depth > _HIGH_DEPTH:
        return "the error bound at this depth is outside precision 'high'"
    return None
