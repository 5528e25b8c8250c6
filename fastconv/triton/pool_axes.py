"""What the pooling kernels share: the windows along an axis, what a mean divides by, and which
problems they take. The twin of csrc/pool/window.h.
"""

from __future__ import annotations

import dataclasses

import triton
import triton.language as tl

from fastconv.families.pool import PoolProblem
from fastconv.triton.row import INDEXABLE, why_not_operands
from fastconv.words import ELEMENT_SIZE

__all__ = [
    "Axis", "axes_of", "constant_divisor", "counted", "place_of", "quotient", "steps", "why_not",
    "window_of",
]  # fmt: skip


@triton.jit
def window_of(o, extent, outputs, stride, pad, ADAPTIVE: tl.constexpr):
    """Output `o` of an axis looks at the inputs from the first value on by steps of the dilation;
    of them those exist that are at least 0 and below the second.
    """
    if ADAPTIVE:
        first = o * extent // outputs
        end = tl.cdiv((o + 1) * extent, outputs)
    else:
        first = o * stride - pad
        end = tl.zeros_like(o) + extent
    return first, end


@triton.jit
def counted(first, end, extent, pad, taps, PADDED: tl.constexpr):
    """The axis' part of what a mean divides by: the places of a dense window inside the image, or
    inside the padded image.
    """
    if PADDED:
        count = tl.minimum(first + taps, extent + pad) - first
    else:
        count = tl.minimum(first + taps, end) - tl.maximum(first, 0)
    return tl.maximum(count, 1)


@triton.jit
def quotient(b_sums, count):
    """Rounded to nearest; `count` is an integer, or a tensor of them."""
    if b_sums.dtype == tl.float64:
        b_mean = b_sums / count
    else:
        b_mean = tl.div_rn(b_sums, tl.full(b_sums.shape, 0.0, tl.float32) + count)
    return b_mean


@triton.jit
def place_of(d, h, w, H, W):
    """The element of an image, or of a window, that an index means."""
    return (d * H + h) * W + w


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis of a pooling."""

    extent: int
    window: int
    outputs: int
    stride: int
    pad: int
    dilation: int
    adaptive: bool

    @property
    def taps(self) -> int:
        """The most that a window has."""
        if not self.adaptive:
            return self.window
        whole, rest = divmod(self.extent, max(self.outputs, 1))
        return whole + (2 if rest else 0)

    @property
    def reaching(self) -> int:
        """The most outputs whose windows reach one input."""
        if self.adaptive:
            whole, rest = divmod(self.outputs, max(self.extent, 1))
            return min(whole + (2 if rest else 0), self.outputs)
        return min(triton.cdiv((self.window - 1) * self.dilation + 1, self.stride), self.outputs)

    def is_whole(self, padded: bool) -> bool:
        """Whether every window lies inside the image, or the padded image."""
        if self.adaptive or (self.pad and not padded):
            return False
        last = (self.outputs - 1) * self.stride + self.window
        return last <= self.extent + 2 * self.pad


def axes_of(p: PoolProblem) -> tuple[Axis, Axis, Axis]:
    """Depth, height and width."""
    return (
        Axis(p.D, p.T, p.Z, p.stride_d, p.pad_d, p.dilation_d, p.adaptive),
        Axis(p.H, p.R, p.P, p.stride_h, p.pad_h, p.dilation_h, p.adaptive),
        Axis(p.W, p.S, p.Q, p.stride_w, p.pad_w, p.dilation_w, p.adaptive),
    )


def constant_divisor(p: PoolProblem) -> int:
    """What every mean of the problem divides by; 0 where each counts its window."""
    if p.divisor:
        return p.divisor
    whole = all(axis.is_whole(p.count_include_pad) for axis in axes_of(p))
    return p.T * p.R * p.S if whole else 0


def steps(p: PoolProblem) -> dict[str, int]:
    """The extents and steps that kernels on windows are told, by the field's letters."""
    return {
        "N": p.N, "D": p.D, "H": p.H, "W": p.W, "Z": p.Z, "P": p.P, "Q": p.Q,
        "stride_d": p.stride_d, "stride_h": p.stride_h, "stride_w": p.stride_w,
        "pad_d": p.pad_d, "pad_h": p.pad_h, "pad_w": p.pad_w,
        "dilation_d": p.dilation_d, "dilation_h": p.dilation_h, "dilation_w": p.dilation_w,
    }  # fmt: skip


def why_not(p: PoolProblem, layout: str) -> str | None:
    """Why the rows for `layout` refuse the problem."""
    if p.mode not in ("avg", "max"):
        return "it is neither a mean nor a maximum"
    if reason := why_not_operands(p, tuple(ELEMENT_SIZE), layout):
        return reason
    if p.adaptive and any((a.extent + 1) * (a.outputs + 1) > INDEXABLE for a in axes_of(p)):
        return "an axis of adaptive windows has 2^31 pairs of input and output or more"
    if max(abs(p.divisor), p.T * p.R * p.S) > INDEXABLE:
        return "a mean divides by 2^31 or more"
    return None
