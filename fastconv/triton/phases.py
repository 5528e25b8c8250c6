"""dgrad of a strided problem by sub-pixel phases: which filter taps a phase meets."""

from __future__ import annotations

import math

import triton
import triton.language as tl

from fastconv.problem import ConvProblem

__all__ = ["steps", "taps_of"]


def steps(p: ConvProblem) -> dict[str, int]:
    """Per axis the distance of a phase's taps, and what finds the first (see `taps_of`)."""
    found = {}
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
    first = offset // common * inverse % step
    first = tl.where(first < 0, first + step, first)
    first = tl.where(offset % common == 0, first, TAPS)
    count = tl.cdiv(TAPS - first, step)
    return first, count, (offset - first * dilation) // stride, dilation // common
