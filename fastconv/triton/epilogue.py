"""What kernels share once their sums are complete: scale, shift, residual, activation."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["finish"]


@triton.jit
def finish(
    b_sums, o_channel, m_channel, o_out, m_out, p_scale, p_shift, p_residual,
    HAS_SCALE: tl.constexpr, HAS_SHIFT: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr,
):  # fmt: skip
    """act(scale * sums + shift + residual) for b_sums [pixels, channels], in the type of the sums.

    `o_channel` [channels] are the output's channels, `o_out` [pixels, channels] its elements; `m_*`
    say which exist. NaN stays NaN.
    """
    if HAS_SCALE:
        b_sums *= tl.load(p_scale + o_channel, mask=m_channel, other=0.0)[None, :]
    if HAS_SHIFT:
        b_sums += tl.load(p_shift + o_channel, mask=m_channel, other=0.0)[None, :]
    if HAS_RESIDUAL:
        b_sums += tl.load(p_residual + o_out, mask=m_out, other=0.0).to(b_sums.dtype)
    if ACTIVATION == 1:
        b_sums = tl.where(b_sums < 0, 0.0, b_sums)
    elif ACTIVATION == 2:
        b_sums = tl.where(b_sums < 0, 0.0, tl.where(b_sums > 6, 6.0, b_sums))
    elif ACTIVATION == 3:
        b_gate = tl.where(b_sums < -3, 0.0, tl.where(b_sums > 3, 6.0, b_sums + 3))
        b_sums = b_sums * b_gate / 6
    elif ACTIVATION == 4:
        b_sums = b_sums / (1 + tl.exp(-b_sums))
    elif ACTIVATION == 5:
        b_sums = 1 / (1 + tl.exp(-b_sums))
    return b_sums
