"""conv_dgrad_direct_nhwc_triton: dx[n,d,h,w,c] by its definition; it takes every problem.

Pixels of dx whose remainders by the stride agree are a phase: a dense convolution of dy with the
taps that meet it (phases.py). A program owns BLOCK_P pixels of a phase by BLOCK_C channels of C, of
one group or of several (direct.py), and adds an outer product for each tap and channel of K/groups,
in float32 (float64 for float64). The phases of the same pixels are neighbours.
Assumes: activations NHWC; the weight is read as [T,R,S,K/groups,C], a vector of C at a time.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from fastconv.problem import ConvProblem
from fastconv.triton.direct import add_tap, blocks, channels, is_one_group, nothing_as, unrolled
from fastconv.triton.epilogue import finish
from fastconv.triton.launch import geometry, launch
from fastconv.triton.phases import count, steps, taps_of
from fastconv.triton.row import Args, Config, Row, why_not_operands

__all__ = ["ROWS"]


@triton.jit
def _kernel(
    p_dy, p_w, p_dx, p_scale, p_shift, p_residual,
    N, D, H, W, Z, P, Q, C, K, C_per_group, K_per_group,
    stride_d, stride_h, stride_w, pad_d, pad_h, pad_w, dilation_d, dilation_h, dilation_w,
    phases_d, phases_h, phases_w, step_d, step_h, step_w, inverse_d, inverse_h, inverse_w, c_blocks,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    HAS_SCALE: tl.constexpr, HAS_SHIFT: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr, DOUBLE: tl.constexpr, ONE_GROUP: tl.constexpr,
    UNROLLED: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    i_c = tl.program_id(0) % c_blocks
    i_phase = tl.program_id(0) // c_blocks % (phases_d * phases_h * phases_w)
    i_p = tl.program_id(0) // c_blocks // (phases_d * phases_h * phases_w)
    group, o_c, m_c = channels(i_c, C, C_per_group, ONE_GROUP, BLOCK_C)
    phase_d = i_phase // (phases_w * phases_h)
    phase_h = i_phase // phases_w % phases_h
    phase_w = i_phase % phases_w
    t0, count_t, z0, jump_z = taps_of(phase_d, stride_d, pad_d, dilation_d, step_d, inverse_d, T)
    r0, count_r, p0, jump_p = taps_of(phase_h, stride_h, pad_h, dilation_h, step_h, inverse_h, R)
    s0, count_s, q0, jump_q = taps_of(phase_w, stride_w, pad_w, dilation_w, step_w, inverse_w, S)

    depth = tl.cdiv(D - phase_d, stride_d)
    height = tl.cdiv(H - phase_h, stride_h)
    width = tl.cdiv(W - phase_w, stride_w)
    pixels = N * depth * height * width
    o_p = i_p * BLOCK_P + tl.arange(0, BLOCK_P)
    m_p = o_p < pixels
    o_row = o_p // tl.maximum(width, 1)
    o_plane = o_row // tl.maximum(height, 1)
    n = o_plane // tl.maximum(depth, 1)
    d = o_plane - n * depth
    h = o_row - o_plane * height
    w = o_p - o_row * width
    z0 += d
    p0 += h
    q0 += w
    o_dy = (((n * Z + z0) * P + p0) * Q + q0) * K
    o_x = ((n * D + d * stride_d + phase_d) * H + h * stride_h + phase_h) * W
    o_out = (o_x + w * stride_w + phase_w)[:, None] * C + o_c[None, :]
    m_out = m_p[:, None] & m_c[None, :]

    taps = tl.where(i_p * BLOCK_P < pixels, count_t * count_r * count_s, 0)
    b_dx = nothing_as(p_dx + o_out, W, DOUBLE)  # [BLOCK_P, BLOCK_C]
    for i in range(0, taps):
        j_t = i // (count_r * count_s)
        j_r = i // count_s % count_r
        j_s = i % count_s
        z = z0 - j_t * jump_z
        p = p0 - j_r * jump_p
        q = q0 - j_s * jump_q
        m_dy = m_p & (z >= 0) & (z < Z) & (p >= 0) & (p < P) & (q >= 0) & (q < Q)
        back = ((j_t * jump_z * P + j_r * jump_p) * Q + j_s * jump_q) * K
        tap = ((t0 + j_t * step_d) * R + r0 + j_r * step_h) * S + s0 + j_s * step_w
        b_dx = add_tap(
            b_dx, p_dy, o_dy - back, m_dy, p_w + tap * K_per_group * C, o_c, m_c,
            group, K_per_group, C, ONE_GROUP, UNROLLED,
        )  # fmt: skip

    b_dx = finish(
        b_dx, o_c, m_c, o_out, m_out, p_scale, p_shift, p_residual,
        HAS_SCALE, HAS_SHIFT, HAS_RESIDUAL, ACTIVATION,
    )  # fmt: skip
    tl.store(p_dx + o_out, b_dx.to(p_dx.dtype.element_ty), mask=m_out)


def _why_not(p: ConvProblem) -> str | None:
    return why_not_operands(p, ("f32", "f64", "bf16", "f16"))


def _configs(p: ConvProblem) -> tuple[Config, ...]:
    """32 sums a thread hide the loads; wider tiles load less, narrower ones fill small problems."""
    wide = p.C_per_group if is_one_group(p.C_per_group, p.groups) else p.C
    c = max(1, triton.next_power_of_2(wide))
    most = 32 if p.dtype == "f64" else 64
    return tuple(
        Config({"BLOCK_P": pixels, "BLOCK_C": min(c, most)}, num_stages=1)
        for pixels in (128 if c < most else 64, 32, 128, 256)
    )


def _turned(p: ConvProblem, w: Tensor) -> Tensor:
    """A weight [K, C/groups, T, R, S] of any strides as dense [T, R, S, K/groups, C]."""
    apart = w.unflatten(0, (p.groups, p.K_per_group))
    return apart.permute(3, 4, 5, 1, 0, 2).contiguous()


def _run(p: ConvProblem, args: Args, config: Config) -> None:
    assert args.w is not None
    c_blocks = blocks(p.C_per_group, p.groups, config.blocks["BLOCK_C"])
    pixels = p.N
    for extent, stride in ((p.D, p.stride_d), (p.H, p.stride_h), (p.W, p.stride_w)):
        pixels *= triton.cdiv(extent, stride)
    launch(
        _kernel,
        (triton.cdiv(pixels, config.blocks["BLOCK_P"]) * count(p) * c_blocks,),
        p_dy=args.dy, p_w=_turned(p, args.w), p_dx=args.out,
        **args.epilogue(), **geometry(p), **steps(p), c_blocks=c_blocks, DOUBLE=p.dtype == "f64",
        ONE_GROUP=is_one_group(p.C_per_group, p.groups), UNROLLED=unrolled(p.K_per_group),
        **config.launch(),
    )  # fmt: skip


ROWS = (Row("conv_dgrad_direct_nhwc_triton", "dgrad", "exact", "direct", _why_not, _run, _configs),)
