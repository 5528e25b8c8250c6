"""The product of two blocks, the same by the compiler and by the interpreter."""

from __future__ import annotations

import os

import triton
import triton.language as tl

__all__ = ["dot"]

_INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")


@triton.jit
def dot(b_a, b_b, b_sums, PRECISION: tl.constexpr):
    """b_sums + b_a @ b_b in float32; PRECISION, of float32 operands, is "ieee" or "tf32".

    Triton's interpreter keeps bfloat16 as its bits and would multiply those.
    """
    if _INTERPRETED:
        b_a = b_a.to(tl.float32)
        b_b = b_b.to(tl.float32)
    return tl.dot(b_a, b_b, b_sums, input_precision=PRECISION)
