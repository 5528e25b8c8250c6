"""conv_dgrad_grouped_nhwc_triton: dx[n,d,h,w,c] for groups of 2 to 32 channels, as matrix products.

The pixels of dx fall into phases, one for each remainder by the strides. Tap r meets row h where
(h + pad_h - r*dilation_h) divides by stride_h: within a phase every STEP-th tap does, and its row
of dy moves by the same steps. gemm_m counts a phase's pixels, gemm_n a group's C (padded to 16),
gemm_k the phase's (t,r,s) times the group's K, flattened. A program owns BLOCK_P pixels of a phase
and takes GROUPS groups in turn, which share cache lines; groups are the fastest axis of the grid,
then phases. A phase that no tap meets is written too. It stays at 4 warps (see `Config`).
Assumes: activations NHWC; the weight is read as [K,T,R,S,C].
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from fastconv.problem import ConvProblem
from fastconv.triton import grouped
from fastconv.triton.dot import dot
from fastconv.triton.epilogue import finish
from fastconv.triton.launch import geometry, launch
from fastconv.triton.operands import krsc
from fastconv.triton.phases import count, grid
from fastconv.triton.row import Args, Config, exact_and_tf32

__all__ = ["ROWS"]


@triton.jit
def _phase(i, stride, pad, dilation, shift, inverse, STEP: tl.constexpr, TAPS: tl.constexpr):
    """Of the phase that begins at h = i: the first r that meets it (TAPS or more: none), their p."""
    common = stride // STEP
    offset = (i + stride - shift) % stride
    tap = ((offset // common).to(tl.int64) * inverse % STEP).to(tl.int32)
    tap = tl.where(offset % common == 0, tap, TAPS)
    return tap, (i + pad - tap * dilation) // stride


@triton.jit
def _kernel(
    p_dy, p_w, p_dx, p_scale, p_shift, p_residual,
    N, D, H, W, Z, P, Q, C, K,
    stride_d, stride_h, stride_w, pad_d, pad_h, pad_w, dilation_d, dilation_h, dilation_w,
    phases_d, phases_h, phases_w, planes, rows, columns, shift_d, shift_h, shift_w,
    inverse_d, inverse_h, inverse_w,
    STRIDED: tl.constexpr, STEP_D: tl.constexpr, STEP_H: tl.constexpr, STEP_W: tl.constexpr,
    C_per_group: tl.constexpr, K_per_group: tl.constexpr,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    HAS_SCALE: tl.constexpr, HAS_SHIFT: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_TAPS: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    MOST_T: tl.constexpr = (T + STEP_D - 1) // STEP_D  # taps of a phase
    MOST_R: tl.constexpr = (R + STEP_H - 1) // STEP_H
    MOST_S: tl.constexpr = (S + STEP_W - 1) // STEP_W
    TAPS: tl.constexpr = MOST_T * MOST_R * MOST_S * K_per_group
    ROW_W: tl.constexpr = T * R * S * C_per_group
    groups = C // C_per_group
    turns = tl.cdiv(groups, GROUPS)
    phases = phases_d * phases_h * phases_w
    i_p = tl.program_id(0) // (turns * phases)
    i_f = tl.program_id(0) // turns % phases
    i_g0 = tl.program_id(0) % turns * GROUPS
    d0, h0, w0, t0, r0, s0 = 0, 0, 0, 0, 0, 0
    z0, p0, q0 = pad_d, pad_h, pad_w
    if STRIDED:
        d0 = i_f // (phases_h * phases_w)
        h0 = i_f // phases_w % phases_h
        w0 = i_f % phases_w
        t0, z0 = _phase(d0, stride_d, pad_d, dilation_d, shift_d, inverse_d, STEP_D, T)
        r0, p0 = _phase(h0, stride_h, pad_h, dilation_h, shift_h, inverse_h, STEP_H, R)
        s0, q0 = _phase(w0, stride_w, pad_w, dilation_w, shift_w, inverse_w, STEP_W, S)
    reach_d = dilation_d // (stride_d // STEP_D)  # steps in dy from a tap of the phase to the next
    reach_h = dilation_h // (stride_h // STEP_H)
    reach_w = dilation_w // (stride_w // STEP_W)

    o_p = i_p * BLOCK_P + tl.arange(0, BLOCK_P)
    o_c = tl.arange(0, BLOCK_C)
    m_c = o_c < C_per_group
    w = o_p % columns
    h = o_p // columns % rows
    d = o_p // (columns * rows) % planes
    n = o_p // (columns * rows * planes)
    z1 = z0 + d
    p1 = p0 + h
    q1 = q0 + w
    d = d0 + d * stride_d
    h = h0 + h * stride_h
    w = w0 + w * stride_w
    m_p = (n < N) & (d < D) & (h < H) & (w < W)
    m_out = m_p[:, None] & m_c[None, :]
    o_dx0 = (((n * D + d) * H + h) * W + w) * C
    o_dy0 = (((n * Z + z1) * P + p1) * Q + q1) * K
    m_dy0 = m_p & (z1.to(tl.uint32) < Z) if MOST_T == 1 else m_p  # unsigned: below 0 is past Z

    for i_g in range(i_g0, tl.minimum(i_g0 + GROUPS, groups)):
        b_dx = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
        for k0 in range(0, TAPS, BLOCK_TAPS):
            o_k = k0 + tl.arange(0, BLOCK_TAPS)
            k = o_k % K_per_group
            tap = o_k // K_per_group
            i_t = tap // (MOST_R * MOST_S)
            i_r = tap // MOST_S % MOST_R
            i_s = tap % MOST_S
            t = t0 + i_t * STEP_D
            r = r0 + i_r * STEP_H
            s = s0 + i_s * STEP_W
            m_k = (o_k < TAPS) & (t < T) & (r < R) & (s < S)
            p = p1[:, None] - (i_r * reach_h)[None, :]
            q = q1[:, None] - (i_s * reach_w)[None, :]
            m_dy = m_dy0[:, None] & m_k[None, :] & (p.to(tl.uint32) < P) & (q.to(tl.uint32) < Q)
            if MOST_T > 1:
                m_dy &= (z1[:, None] - (i_t * reach_d)[None, :]).to(tl.uint32) < Z
            o_dy = k - ((i_t * reach_d * P + i_r * reach_h) * Q + i_s * reach_w) * K
            o_w = k * ROW_W + ((t * R + r) * S + s) * C_per_group
            b_dy = tl.load(
                p_dy + i_g * K_per_group + (o_dy0[:, None] + o_dy[None, :]), mask=m_dy, other=0.0
            )
            b_w = tl.load(
                p_w + i_g * K_per_group * ROW_W + (o_w[:, None] + o_c[None, :]),
                mask=m_k[:, None] & m_c[None, :], other=0.0,
            )  # fmt: skip
            b_dx = dot(b_dy, b_w, b_dx, PRECISION)  # [BLOCK_P, BLOCK_C]

        c = i_g * C_per_group + o_c
        o_out = o_dx0[:, None] + c[None, :]
        b_dx = finish(
            b_dx, c, m_c, o_out, m_out, p_scale, p_shift, p_residual,
            HAS_SCALE, HAS_SHIFT, HAS_RESIDUAL, ACTIVATION,
        )  # fmt: skip
        tl.store(p_dx + o_out, b_dx.to(p_dx.dtype.element_ty), mask=m_out)


def _phases(p: ConvProblem) -> dict[str, int]:
    """What the kernel is told of the phases: how many, their extents, and of each axis, by how much the first
    padded h misses a multiple of the stride, and (dilation/common)^-1 modulo STEP = stride/common.
    """
    arguments = grid(p) | {
        "planes": triton.cdiv(p.D, p.stride_d),
        "rows": triton.cdiv(p.H, p.stride_h),
        "columns": triton.cdiv(p.W, p.stride_w),
        "STRIDED": int(max(p.stride_d, p.stride_h, p.stride_w) > 1),
    }
    for axis in "dhw":
        stride, dilation = getattr(p, f"stride_{axis}"), getattr(p, f"dilation_{axis}")
        common = math.gcd(stride, dilation)
        step = stride // common
        arguments[f"STEP_{axis.upper()}"] = step
        arguments[f"shift_{axis}"] = -getattr(p, f"pad_{axis}") % stride
        arguments[f"inverse_{axis}"] = pow(dilation // common, -1, step)
    return arguments


def _configs(p: ConvProblem, precision: str) -> tuple[Config, ...]:
    told = _phases(p)
    taps = p.K_per_group
    for extent, axis in ((p.T, "D"), (p.R, "H"), (p.S, "W")):
        taps *= triton.cdiv(extent, told[f"STEP_{axis}"])
    pixels = p.N * told["planes"] * told["rows"] * told["columns"]
    blocks = {"BLOCK_C": grouped.wide(p.C_per_group)}
    return grouped.configs(p, pixels, count(p), taps, blocks)


def _run(p: ConvProblem, args: Args, config: Config, precision: str) -> None:
    assert args.w is not None
    told = _phases(p)
    pixels = p.N * told["planes"] * told["rows"] * told["columns"]
    blocks = triton.cdiv(pixels, config.blocks["BLOCK_P"])
    launch(
        _kernel, (blocks * count(p) * triton.cdiv(p.groups, config.blocks["GROUPS"]),),
        p_dy=args.dy, p_w=krsc(args.w), p_dx=args.out, **args.epilogue(), **geometry(p), **told,
        PRECISION=precision, **config.launch(),
    )  # fmt: skip


ROWS = exact_and_tf32("dgrad", "grouped", grouped.why_not, _run, _configs)
