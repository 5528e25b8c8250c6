"""Winograd's F(2x2,3x3) with channels last: what its fprop and its dgrad share.

Y = At [(G g Gt) * (Bt d B)] A for tiles of 2x2 outputs, docs/winograd.md. Four launches: filters to
U[16, C, K], tiles of 4x4 inputs to V[16, tiles, C], 16 matrix products to M[16, tiles, K], and the
outputs with their epilogue. dgrad is fprop of dy with C and K exchanged, the filter turned by 180
degrees and a padding of 2 - pad. M lies in memory because sixteen sums in registers would leave
each product a tile too small to reuse its operands.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastconv.problem import ConvProblem
from fastconv.triton.dot import dot
from fastconv.triton.epilogue import finish
from fastconv.triton.launch import launch
from fastconv.triton.row import Args, Config, why_not_operands

__all__ = ["configs", "run", "why_not"]

#: Values of each of the 16 positions that a program of a transform holds.
_TRANSFORMED = 512
_FEWEST_CHANNELS = 16


@triton.jit
def _filter_line(g0, g1, g2):
    """Three values to four."""
    even = (g0 + g2) * 0.5
    odd = g1 * 0.5
    return g0, even + odd, even - odd, g2


@triton.jit
def _filter_row(p_w, m, stride_s):
    """g Gt of a row of three taps."""
    g0 = tl.load(p_w, mask=m, other=0.0)
    g1 = tl.load(p_w + stride_s, mask=m, other=0.0)
    g2 = tl.load(p_w + 2 * stride_s, mask=m, other=0.0)
    return _filter_line(g0, g1, g2)


@triton.jit
def _filter_column(p_u, m, step, g0, g1, g2):
    """G g of a column, into U."""
    u0, u1, u2, u3 = _filter_line(g0, g1, g2)
    tl.store(p_u, u0, mask=m)
    tl.store(p_u + 4 * step, u1, mask=m)
    tl.store(p_u + 8 * step, u2, mask=m)
    tl.store(p_u + 12 * step, u3, mask=m)


@triton.jit
def _filter_kernel(
    p_w, p_u, IN_per_group, OUT, OUT_per_group, stride_k, stride_c, stride_r, stride_s,
    TURNED: tl.constexpr, BLOCK_IN: tl.constexpr, BLOCK_OUT: tl.constexpr,
):  # fmt: skip
    o_in = tl.program_id(1) * BLOCK_IN + tl.arange(0, BLOCK_IN)[:, None]
    o_out = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)[None, :]
    m = (o_in < IN_per_group) & (o_out < OUT)
    if TURNED:
        k = o_out // OUT_per_group * IN_per_group + o_in
        p_g = p_w + k * stride_k + o_out % OUT_per_group * stride_c
        p_g += 2 * stride_r + 2 * stride_s
        stride_r = -stride_r
        stride_s = -stride_s
    else:
        p_g = p_w + o_out * stride_k + o_in * stride_c
    a0, a1, a2, a3 = _filter_row(p_g, m, stride_s)
    b0, b1, b2, b3 = _filter_row(p_g + stride_r, m, stride_s)
    c0, c1, c2, c3 = _filter_row(p_g + 2 * stride_r, m, stride_s)
    step = IN_per_group * OUT
    p_u += o_in * OUT + o_out
    _filter_column(p_u, m, step, a0, b0, c0)
    _filter_column(p_u + step, m, step, a1, b1, c1)
    _filter_column(p_u + 2 * step, m, step, a2, b2, c2)
    _filter_column(p_u + 3 * step, m, step, a3, b3, c3)


@triton.jit
def _input_row(p_x, h, w, m, H, W, C):
    """d B of a row of four pixels, zero outside the image."""
    m = m & (h >= 0) & (h < H)
    d0 = tl.load(p_x, mask=m & (w >= 0) & (w < W), other=0.0)
    d1 = tl.load(p_x + C, mask=m & (w >= -1) & (w < W - 1), other=0.0)
    d2 = tl.load(p_x + 2 * C, mask=m & (w >= -2) & (w < W - 2), other=0.0)
    d3 = tl.load(p_x + 3 * C, mask=m & (w >= -3) & (w < W - 3), other=0.0)
    return d0 - d2, d1 + d2, d2 - d1, d1 - d3


@triton.jit
def _input_column(p_v, m, step, d0, d1, d2, d3):
    """Bt d of a column, into V."""
    tl.store(p_v, d0 - d2, mask=m)
    tl.store(p_v + 4 * step, d1 + d2, mask=m)
    tl.store(p_v + 8 * step, d2 - d1, mask=m)
    tl.store(p_v + 12 * step, d1 - d3, mask=m)


@triton.jit
def _input_kernel(
    p_x, p_v, tiles, rows, columns, H, W, C, pad_h, pad_w,
    BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    o_t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)[:, None]
    o_c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    m = (o_t < tiles) & (o_c < C)
    w = o_t % columns * 2 - pad_w
    h = o_t // columns % rows * 2 - pad_h
    p_x += ((o_t // (columns * rows) * H + h) * W + w) * C + o_c
    a0, a1, a2, a3 = _input_row(p_x, h, w, m, H, W, C)
    b0, b1, b2, b3 = _input_row(p_x + W * C, h + 1, w, m, H, W, C)
    c0, c1, c2, c3 = _input_row(p_x + 2 * W * C, h + 2, w, m, H, W, C)
    d0, d1, d2, d3 = _input_row(p_x + 3 * W * C, h + 3, w, m, H, W, C)
    step = tiles * C
    p_v += o_t * C + o_c
    _input_column(p_v, m, step, a0, b0, c0, d0)
    _input_column(p_v + step, m, step, a1, b1, c1, d1)
    _input_column(p_v + 2 * step, m, step, a2, b2, c2, d2)
    _input_column(p_v + 3 * step, m, step, a3, b3, c3, d3)


@triton.jit
def _product_kernel(
    p_v, p_u, p_m, tiles, IN, OUT, IN_per_group, OUT_per_group,
    BLOCK_T: tl.constexpr, BLOCK_OUT: tl.constexpr, BLOCK_IN: tl.constexpr,
):  # fmt: skip
    out_blocks = tl.cdiv(OUT_per_group, BLOCK_OUT)
    i_t = tl.program_id(0) // out_blocks
    i_out = tl.program_id(0) % out_blocks
    i_position = tl.program_id(1)
    i_g = tl.program_id(2)
    o_t = i_t * BLOCK_T + tl.arange(0, BLOCK_T)
    o_out = i_out * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    o_in = tl.arange(0, BLOCK_IN)
    m_t = o_t < tiles
    m_out = o_out < OUT_per_group
    o_out += i_g * OUT_per_group
    p_v += i_position * tiles * IN + i_g * IN_per_group + (o_t[:, None] * IN + o_in[None, :])
    p_u += i_position * IN_per_group * OUT + (o_in[:, None] * OUT + o_out[None, :])
    b_m = tl.zeros([BLOCK_T, BLOCK_OUT], tl.float32)
    for i in range(0, IN_per_group, BLOCK_IN):
        m_in = o_in < IN_per_group - i
        b_v = tl.load(p_v + i, mask=m_t[:, None] & m_in[None, :], other=0.0)
        b_u = tl.load(p_u + i * OUT, mask=m_in[:, None] & m_out[None, :], other=0.0)
        b_m = dot(b_v, b_u, b_m, "ieee")
    p_m += i_position * tiles * OUT + (o_t[:, None] * OUT + o_out[None, :])
    tl.store(p_m, b_m, mask=m_t[:, None] & m_out[None, :])


@triton.jit
def _output_row(p_m, m, step):
    """m A of a row of M: four values to two."""
    m0 = tl.load(p_m, mask=m, other=0.0)
    m1 = tl.load(p_m + step, mask=m, other=0.0)
    m2 = tl.load(p_m + 2 * step, mask=m, other=0.0)
    m3 = tl.load(p_m + 3 * step, mask=m, other=0.0)
    return m0 + m1 + m2, m1 - m2 - m3


@triton.jit
def _output_kernel(
    p_m, p_y, p_scale, p_shift, p_residual, tiles, rows, columns, P, Q, K,
    HAS_SCALE: tl.constexpr, HAS_SHIFT: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    o_t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)[:, None]
    o_k = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    m_k = o_k < K
    m = (o_t < tiles) & m_k[None, :]
    q = o_t % columns * 2
    p = o_t // columns % rows * 2
    o_y = ((o_t // (columns * rows) * P + p) * Q + q) * K + o_k[None, :]
    step = tiles * K
    p_m += o_t * K + o_k[None, :]
    a0, a1 = _output_row(p_m, m, step)
    b0, b1 = _output_row(p_m + 4 * step, m, step)
    c0, c1 = _output_row(p_m + 8 * step, m, step)
    d0, d1 = _output_row(p_m + 12 * step, m, step)
    for i in tl.static_range(4):
        if i == 0:
            b_y = a0 + b0 + c0
        elif i == 1:
            b_y = a1 + b1 + c1
        elif i == 2:
            b_y = b0 - c0 - d0
        else:
            b_y = b1 - c1 - d1
        m_y = m & (p + i // 2 < P) & (q + i % 2 < Q)
        o_out = o_y + (i // 2 * Q + i % 2) * K
        b_y = finish(
            b_y, o_k, m_k, o_out, m_y, p_scale, p_shift, p_residual,
            HAS_SCALE, HAS_SHIFT, HAS_RESIDUAL, ACTIVATION,
        )  # fmt: skip
        tl.store(p_y + o_out, b_y, mask=m_y)


def _tiles(p: ConvProblem, turned: bool) -> tuple[int, int]:
    """Rows and columns of tiles of an image of the result."""
    height, width = (p.H, p.W) if turned else (p.P, p.Q)
    return triton.cdiv(height, 2), triton.cdiv(width, 2)


def why_not(p: ConvProblem, turned: bool) -> str | None:
    """Why fprop (or dgrad, where filters are `turned`) refuses the problem."""
    if reason := why_not_operands(p, ("f32",)):
        return reason
    if not p.is_2d:
        return "there are three spatial axes"
    if (p.R, p.S) != (3, 3):
        return "the filter is not 3x3"
    if (p.stride_h, p.stride_w, p.dilation_h, p.dilation_w) != (1, 1, 1, 1):
        return "a stride or a dilation is not 1"
    if p.groups > 1 and min(p.C_per_group, p.K_per_group) < _FEWEST_CHANNELS:
        return "groups of fewer than 16 channels leave most of a product's tile empty"
    rows, columns = _tiles(p, turned)
    workspace = 16 * max(p.N * rows * columns * max(p.C, p.K), p.K * p.C_per_group)
    if workspace >= 2**31:
        return "a workspace has 2^31 elements or more"
    return None


def configs(p: ConvProblem, turned: bool) -> tuple[Config, ...]:
    """Tiles of the 16 products, whose IEEE sums run in ordinary units: squares reuse the most."""
    most = max(16, triton.next_power_of_2(p.C_per_group if turned else p.K_per_group))
    return tuple(
        Config({"BLOCK_T": tile, "BLOCK_OUT": min(most, wide), "BLOCK_IN": 16}, num_warps=warps)
        for tile, wide, warps in ((64, 64, 4), (128, 64, 4), (128, 128, 8))
    )


def _transform_blocks(channels: int) -> tuple[int, int]:
    """(tiles, channels) of a program: whole lines of memory where there are channels enough."""
    wide = min(64, max(16, triton.next_power_of_2(channels)))
    return _TRANSFORMED // wide, wide


def run(p: ConvProblem, args: Args, config: Config, turned: bool) -> None:
    """fprop of x to y; `turned`: dgrad, of dy to dx."""
    assert args.w is not None
    source, height, width, pad_h, pad_w = args.x, p.H, p.W, p.pad_h, p.pad_w
    reduced, out, out_height, out_width = p.C, p.K, p.P, p.Q
    if turned:
        source, height, width, pad_h, pad_w = args.dy, p.P, p.Q, 2 - p.pad_h, 2 - p.pad_w
        reduced, out, out_height, out_width = p.K, p.C, p.H, p.W
    IN_per_group, OUT_per_group = reduced // p.groups, out // p.groups
    rows, columns = _tiles(p, turned)
    tiles = p.N * rows * columns

    def room(*sizes: int) -> Tensor:
        return torch.empty((16, *sizes), dtype=torch.float32, device=args.out.device)

    u, v, m = room(IN_per_group, out), room(tiles, reduced), room(tiles, out)
    stride_k, stride_c, _, stride_r, stride_s = args.w.stride()
    launch(
        _filter_kernel, (triton.cdiv(out, 32), triton.cdiv(IN_per_group, 16)),
        p_w=args.w, p_u=u, IN_per_group=IN_per_group, OUT=out, OUT_per_group=OUT_per_group,
        stride_k=stride_k, stride_c=stride_c, stride_r=stride_r, stride_s=stride_s,
        TURNED=turned, BLOCK_IN=16, BLOCK_OUT=32,
    )  # fmt: skip
    block_t, block_c = _transform_blocks(reduced)
    launch(
        _input_kernel, (triton.cdiv(tiles, block_t), triton.cdiv(reduced, block_c)),
        p_x=source, p_v=v, tiles=tiles, rows=rows, columns=columns, H=height, W=width, C=reduced,
        pad_h=pad_h, pad_w=pad_w, BLOCK_T=block_t, BLOCK_C=block_c,
    )  # fmt: skip
    blocks = config.blocks
    across = triton.cdiv(OUT_per_group, blocks["BLOCK_OUT"])
    launch(
        _product_kernel, (triton.cdiv(tiles, blocks["BLOCK_T"]) * across, 16, p.groups),
        p_v=v, p_u=u, p_m=m, tiles=tiles, IN=reduced, OUT=out, IN_per_group=IN_per_group,
        OUT_per_group=OUT_per_group, **config.launch(),
    )  # fmt: skip
    block_t, block_k = _transform_blocks(out)
    launch(
        _output_kernel, (triton.cdiv(tiles, block_t), triton.cdiv(out, block_k)),
        p_m=m, p_y=args.out, **args.epilogue(), tiles=tiles, rows=rows, columns=columns,
        P=out_height, Q=out_width, K=out, BLOCK_T=block_t, BLOCK_K=block_k,
    )  # fmt: skip
