"""out[b,m,n] = sum over k of left[b,m,k] * right[b,k,n]: a matrix product, batched for groups.

A program owns BLOCK_M by BLOCK_N sums of one batch and one part of gemm_k; then follows the common
epilogue, with channels (b,n). Programs run batch by batch within a tile (groups share lines of
memory), tiles down GROUP_M blocks of m before the next block of n: both operands meet in L2.
Operands lie with any strides, one of them 1 per operand if it is to be fast; out's n has stride 1.
Triton knows by itself of an integer only whether it is 1 or a multiple of 16; the constants *_UNIT
tell it of smaller powers of two, without which 24 channels would be read one at a time.
"""

from __future__ import annotations

import dataclasses
import math

import triton
import triton.language as tl
from torch import Tensor

from fastconv.triton.dot import dot
from fastconv.triton.epilogue import finish
from fastconv.triton.launch import launch
from fastconv.triton.reduce import splits_for
from fastconv.triton.row import Args, Config

__all__ = ["Extents", "Matrix", "configs", "multiply", "split", "unit"]

#: Multiprocessors of a large GPU: tiles shrink until there is a program for each.
_FULL = 132
#: Blocks of m that share a block of n in L2.
_GROUP_M = 8


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Where (batch, row, column) lies in `data`: the steps from one to the next."""

    data: Tensor
    batch: int
    row: int
    column: int


@dataclasses.dataclass(frozen=True)
class Extents:
    """The product's sizes. gemm_k is cut into `parts`, whose sums lie `part_step` apart in `out`.

    The right side may have up to `spare` columns beyond gemm_n: they are read, finite or not, for
    the sake of whole vectors, and reach nothing.
    """

    gemm_m: int
    gemm_n: int
    gemm_k: int
    batches: int = 1
    parts: int = 1
    part_step: int = 0
    spare: int = 0


def split(gemm_m: int, gemm_n: int, gemm_k: int, batches: int, spare: int = 0) -> Extents:
    """A gradient's product: gemm_k, the pixels, in parts of a few hundred at least."""
    tiles = triton.cdiv(gemm_m, 128) * triton.cdiv(gemm_n, 128) * batches
    parts = splits_for(tiles, triton.cdiv(gemm_k, 512))
    return Extents(gemm_m, gemm_n, gemm_k, batches, parts, batches * gemm_m * gemm_n, spare)


@triton.jit
def _kernel(
    p_left, p_right, p_out, p_scale, p_shift, p_residual,
    gemm_m, width, spare, gemm_k, batches, part_blocks,
    left_batch, left_m, left_k, right_batch, right_k, right_n, out_part, out_batch, out_m,
    HAS_SCALE: tl.constexpr, HAS_SHIFT: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr, PRECISION: tl.constexpr,
    M_UNIT: tl.constexpr, N_UNIT: tl.constexpr, K_UNIT: tl.constexpr,
    LEFT_UNIT: tl.constexpr, RIGHT_UNIT: tl.constexpr, OUT_UNIT: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    gemm_m = gemm_m // M_UNIT * M_UNIT
    width = width // N_UNIT * N_UNIT
    gemm_k = gemm_k // K_UNIT * K_UNIT
    gemm_n = width - spare
    i_batch = tl.program_id(0) % batches
    i_tile = tl.program_id(0) // batches
    i_part = tl.program_id(1)
    in_group = GROUP_M * tl.cdiv(gemm_n, BLOCK_N)
    i_first = i_tile // in_group * GROUP_M
    rows = tl.minimum(tl.cdiv(gemm_m, BLOCK_M) - i_first, GROUP_M)
    i_m = i_first + i_tile % in_group % rows
    i_n = i_tile % in_group // rows
    o_m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    o_k = tl.arange(0, BLOCK_K)
    m_m = o_m < gemm_m
    m_width = o_n < width
    m_n = o_n < gemm_n
    k0 = i_part * part_blocks * BLOCK_K
    p_left += tl.multiple_of(i_batch * left_batch, LEFT_UNIT) + k0 * left_k
    p_right += tl.multiple_of(i_batch * right_batch, RIGHT_UNIT) + k0 * right_k
    o_left = tl.multiple_of(o_m * left_m, LEFT_UNIT)[:, None]
    o_left += tl.multiple_of(o_k * left_k, LEFT_UNIT)[None, :]  # [BLOCK_M, BLOCK_K]
    o_right = tl.multiple_of(o_k * right_k, RIGHT_UNIT)[:, None]
    o_right += tl.multiple_of(o_n * right_n, RIGHT_UNIT)[None, :]  # [BLOCK_K, BLOCK_N]

    blocks = tl.minimum(tl.cdiv(gemm_k - k0, BLOCK_K), part_blocks)
    b_sums = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for i in range(0, blocks):
        m_k = o_k < gemm_k - k0 - i * BLOCK_K
        b_left = tl.load(p_left + o_left, mask=m_m[:, None] & m_k[None, :], other=0.0)
        b_right = tl.load(p_right + o_right, mask=m_k[:, None] & m_width[None, :], other=0.0)
        b_sums = dot(b_left, b_right, b_sums, PRECISION)
        p_left += BLOCK_K * left_k
        p_right += BLOCK_K * right_k

    p_out += i_part * out_part
    o_out = tl.multiple_of(o_m * out_m, OUT_UNIT)[:, None]
    o_out += (tl.multiple_of(i_batch * out_batch, OUT_UNIT) + o_n)[None, :]
    m_out = m_m[:, None] & m_n[None, :]
    b_sums = finish(
        b_sums, i_batch * gemm_n + o_n, m_n, o_out, m_out, p_scale, p_shift, p_residual,
        HAS_SCALE, HAS_SHIFT, HAS_RESIDUAL, ACTIVATION,
    )  # fmt: skip
    tl.store(p_out + o_out, b_sums.to(p_out.dtype.element_ty), mask=m_out)


def unit(*values: int) -> int:
    """The largest power of two, at most 16, that divides them all."""
    common = math.gcd(16, *values)
    return common & -common


def _steps_unit(matrix: Matrix, batches: int) -> int:
    """What divides every start of a run: the steps other than 1."""
    between = [matrix.batch] if batches > 1 else []
    return unit(*between, *(step for step in (matrix.row, matrix.column) if step != 1))


def multiply(
    left: Matrix,
    right: Matrix,
    out: Matrix,
    extents: Extents,
    config: Config,
    precision: str,
    epilogue: dict[str, object] | None = None,
) -> None:
    """Launches the product; `precision` is tl.dot's, `epilogue` that of `Args`."""
    assert out.column == 1
    blocks = config.blocks
    tiles = triton.cdiv(extents.gemm_m, blocks["BLOCK_M"])
    tiles *= triton.cdiv(extents.gemm_n, blocks["BLOCK_N"])
    part_blocks = triton.cdiv(triton.cdiv(extents.gemm_k, blocks["BLOCK_K"]), extents.parts)
    width = extents.gemm_n + extents.spare
    launch(
        _kernel, (tiles * extents.batches, extents.parts),
        p_left=left.data, p_right=right.data, p_out=out.data,
        **(Args(out.data).epilogue() if epilogue is None else epilogue),
        gemm_m=extents.gemm_m, width=width, spare=extents.spare, gemm_k=extents.gemm_k,
        batches=extents.batches, part_blocks=part_blocks,
        left_batch=left.batch, left_m=left.row, left_k=left.column,
        right_batch=right.batch, right_k=right.row, right_n=right.column,
        out_part=extents.part_step, out_batch=out.batch, out_m=out.row, PRECISION=precision,
        M_UNIT=unit(extents.gemm_m), N_UNIT=unit(width), K_UNIT=unit(extents.gemm_k),
        LEFT_UNIT=_steps_unit(left, extents.batches),
        RIGHT_UNIT=_steps_unit(right, extents.batches),
        OUT_UNIT=_steps_unit(out, extents.batches), GROUP_M=_GROUP_M, **config.launch(),
    )  # fmt: skip


def _block(extent: int, most: int) -> int:
    """A power of two that covers the extent, within what tl.dot takes."""
    return min(most, max(16, triton.next_power_of_2(extent)))


def configs(extents: Extents, dtype: str, precision: str) -> tuple[Config, ...]:
    """The largest tile first that still fills a GPU, then the others.

    Narrow products take tall tiles. Shallow ones, bound by memory, read left once for 256 columns.
    Many groups fill a GPU without the smallest tile.
    """
    exact = dtype == "f32" and precision == "ieee"
    tiles = [(128, 128), (128, 64), (64, 64)]
    if extents.gemm_n <= 64:
        tiles = [(256, 64), (128, 64), (64, 64)]
    elif 128 < extents.gemm_n <= 256 and extents.gemm_k <= 256 and not exact:
        tiles.insert(0, (64, 256))
    if extents.batches > 8:
        tiles.pop()
    part_k = triton.cdiv(extents.gemm_k, extents.parts)
    filling: list[Config] = []
    others: list[Config] = []
    for high, wide in tiles:
        m, n = _block(extents.gemm_m, high), _block(extents.gemm_n, wide)
        config = _config(m, n, part_k, dtype, exact)
        if config in filling or config in others:
            continue
        programs = triton.cdiv(extents.gemm_m, m) * triton.cdiv(extents.gemm_n, n)
        full = programs * extents.batches * extents.parts >= _FULL
        (filling if full else others).append(config)
    return (*filling, *reversed(others))


def _config(m: int, n: int, part_k: int, dtype: str, exact: bool) -> Config:
    """Deep blocks of gemm_k feed the tensor cores; exact float32 keeps its operands in registers.
    Stages beyond the blocks there are would only take shared memory from other programs.
    """
    deep = 16 if exact else 32 if dtype == "f32" else 64
    deep *= 1 if m + n > 128 else 2 if m + n > 64 else 4
    k = _block(part_k, min(deep, 128))
    stages = 3 if m * n > 8192 else 4
    return Config(
        {"BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": k},
        num_warps=8 if m * n > 8192 else 4,
        num_stages=max(2, min(stages, triton.cdiv(part_k, k) + 1)),
    )
