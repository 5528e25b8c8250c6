"""conv_dgrad_igemm_nhwc_triton: dx[n,d,h,w,c] as matrix products, no left side ever written.

Pixels of dx whose remainders by the stride agree are a phase: a dense convolution of dy with the
taps that meet it (phases.py), so no product with an inserted zero is made. In a phase gemm_m counts
the pixels (n,d,h,w), gemm_n a group's C, gemm_k the phase's taps times K. A program owns BLOCK_P
pixels of a phase by BLOCK_C channels of one group; the phases of the same pixels are neighbours:
they read the same dy and write the same lines. The loop over taps and blocks of K stays at 4 warps.
Assumes: activations NHWC; the weight is read as [K,T,R,S,C].
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastconv.problem import ConvProblem
from fastconv.triton.dot import dot
from fastconv.triton.epilogue import finish
from fastconv.triton.launch import geometry, launch
from fastconv.triton.operands import krsc
from fastconv.triton.phases import count, steps, taps_of
from fastconv.triton.row import Args, Config, exact_and_tf32, why_not_product

__all__ = ["ROWS"]


@triton.jit
def _kernel(
    p_dy, p_w, p_dx, p_scale, p_shift, p_residual,
    N, D, H, W, Z, P, Q, C, K, C_per_group, K_per_group,
    stride_d, stride_h, stride_w, pad_d, pad_h, pad_w, dilation_d, dilation_h, dilation_w,
    phases_d, phases_h, phases_w, step_d, step_h, step_w, inverse_d, inverse_h, inverse_w,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    HAS_SCALE: tl.constexpr, HAS_SHIFT: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    c_blocks = tl.cdiv(C_per_group, BLOCK_C)
    i_c = tl.program_id(0) % c_blocks
    i_phase = tl.program_id(0) // c_blocks % (phases_d * phases_h * phases_w)
    i_p = tl.program_id(0) // c_blocks // (phases_d * phases_h * phases_w)
    i_g = tl.program_id(1)
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
    o_x = ((n * D + d * stride_d + phase_d) * H + h * stride_h + phase_h) * W
    o_x += w * stride_w + phase_w
    if T == 1:
        m_dy = m_p & (z0 >= 0) & (z0 < Z)
    else:
        m_dy = m_p
    o_c = i_c * BLOCK_C + tl.arange(0, BLOCK_C)
    o_k = tl.arange(0, BLOCK_K)
    m_c = o_c < C_per_group
    o_dy = (((n * Z + z0) * P + p0) * Q + q0)[:, None] * K + o_k[None, :]
    o_w = o_k[:, None] * (T * R * S * C_per_group) + o_c[None, :]
    p_dyg = p_dy + i_g * K_per_group
    p_wg = p_w + i_g * K_per_group * (T * R * S * C_per_group)

    j_t, j_r, j_s, k0 = 0, 0, 0, 0
    rounds = count_t * count_r * count_s * tl.cdiv(K_per_group, BLOCK_K)
    rounds = tl.where(i_p * BLOCK_P < pixels, rounds, 0)
    b_dx = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    for _ in range(0, rounds):
        p = p0 - j_r * jump_p
        q = q0 - j_s * jump_q
        m_tap = m_dy & (p >= 0) & (p < P) & (q >= 0) & (q < Q)
        if T > 1:
            m_tap &= (z0 - j_t * jump_z >= 0) & (z0 - j_t * jump_z < Z)
        m_k = o_k < K_per_group - k0
        back = ((j_t * jump_z * P + j_r * jump_p) * Q + j_s * jump_q) * K
        tap = ((t0 + j_t * step_d) * R + r0 + j_r * step_h) * S + s0 + j_s * step_w
        p_wt = p_wg + (k0 * (T * R * S) + tap) * C_per_group
        b_dy = tl.load(p_dyg + (k0 - back) + o_dy, mask=m_tap[:, None] & m_k[None, :], other=0.0)
        b_w = tl.load(p_wt + o_w, mask=m_k[:, None] & m_c[None, :], other=0.0)
        b_dx = dot(b_dy, b_w, b_dx, PRECISION)  # [BLOCK_P, BLOCK_C]
        k0 += BLOCK_K
        j_s = tl.where(k0 < K_per_group, j_s, j_s + 1)
        k0 = tl.where(k0 < K_per_group, k0, 0)
        j_r = tl.where(j_s < count_s, j_r, j_r + 1)
        j_s = tl.where(j_s < count_s, j_s, 0)
        j_t = tl.where(j_r < count_r, j_t, j_t + 1)
        j_r = tl.where(j_r < count_r, j_r, 0)

    o_channel = i_g * C_per_group + o_c
    o_out = o_x[:, None] * C + o_channel[None, :]
    m_out = m_p[:, None] & m_c[None, :]
    b_dx = finish(
        b_dx, o_channel, m_c, o_out, m_out, p_scale, p_shift, p_residual,
        HAS_SCALE, HAS_SHIFT, HAS_RESIDUAL, ACTIVATION,
    )  # fmt: skip
    tl.store(p_dx + o_out, b_dx.to(p_dx.dtype.element_ty), mask=m_out)


def _configs(p: ConvProblem, precision: str) -> tuple[Config, ...]:
    """Wide in the channels that exist: 128 pixels reuse a weight tile, deep BLOCK_K feeds wgmma."""
    c = min(128, max(16, triton.next_power_of_2(p.C_per_group)))
    k = min(64 if p.dtype != "f32" else 32, max(16, triton.next_power_of_2(p.K_per_group)))
    return tuple(
        Config({"BLOCK_P": pixels, "BLOCK_C": min(c, wide), "BLOCK_K": k}, num_stages=stages)
        for pixels, wide, stages in ((128, 64, 3), (128, 128, 3), (64, 64, 4), (64, 128, 4))
    )


def _run(p: ConvProblem, args: Args, config: Config, precision: str) -> None:
    assert args.w is not None
    blocks = config.blocks
    pixels = p.N
    for extent, stride in ((p.D, p.stride_d), (p.H, p.stride_h), (p.W, p.stride_w)):
        pixels *= triton.cdiv(extent, stride)
    programs = triton.cdiv(pixels, blocks["BLOCK_P"]) * count(p)
    launch(
        _kernel,
        (programs * triton.cdiv(p.C_per_group, blocks["BLOCK_C"]), p.groups),
        p_dy=args.dy, p_w=krsc(args.w), p_dx=args.out, **args.epilogue(), **geometry(p),
        **steps(p), PRECISION=precision, **config.launch(),
    )  # fmt: skip


ROWS = exact_and_tf32("dgrad", "igemm", why_not_product, _run, _configs)
