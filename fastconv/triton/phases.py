"""dgrad of a strided problem by sub-pixel phases: which filter taps a phase meets."""

from __future__ import annotations

import math

import triton
import triton.language as tl

from fastconv.problem import ConvProblem

__all__ = ["count", "grid", "steps", "taps_of"]


def grid(p: ConvProblem) -> dict[str, int]:
    """Per axis the phases that have pixels, which a stride beyond the image leaves most without."""
    return {
        "phases_d": min(p.stride_d, p.D),
        "phases_h": min(p.stride_h, p.H),
        "phases_w": min(p.stride_w, p.W),
    }


def count(p: ConvProblem) -> int:
    """How many phases have pixels."""
    return math.prod(grid(p).values())


def steps(p: ConvProblem) -> dict[str, int]:
    """Per axis the phases, the distance of a phase's taps, and what finds the first (`taps_of`)."""
    found = grid(p)
    for axis in "dhw":
        stride, dilation = getattr(p, f"stride_{axis}"), getattr(p, f"dilation_{axis}")
        common = math.gcd(stride, dilation)
        found[f"step_{axis}"] = stride // common
        found[f"inverse_{axis}"] = pow(dilation // common, -1, stride // common)
    return found


@triton.jit
def taps_of(phase, stride, pad, dilation, step, inverse, TAPS: tl.constexpr):
    """Along one axis, dx's elements phase + stride * i meet dy's element origin + i - j * jump with
    tap first + j * step, 0 <= j < count: with the taps for which the stride divides
    phase + pad - tap * dilation. `inverse` is that of dilation / common modulo step.

    Returns first, count, origin, jump.
    """
    common = stride // step
    offset = phase + pad
    first = ((offset // common).to(tl.int64) * inverse % step).to(tl.int32)
    first = tl.where(first < 0, first + step, first)
    first = tl.where(offset % common == 0, first, TAPS)
    count = tl.cdiv(TAPS - first, step)
    return first, count, (offset - first * dilation) // stride, dilation // common
