"""The second stage of a split sum: partial weight gradients added in a fixed order."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastconv.triton.launch import launch

__all__ = ["partials_like", "splits_for", "sum_partials"]

_BLOCK = 256
#: Programs that keep a GPU of 132 multiprocessors busy; the same everywhere, so that sums are too.
_PROGRAMS = 264


@triton.jit
def _kernel(
    p_parts, p_dw, SPLITS, elements, C_per_group, stride_k, stride_c, stride_t, stride_r, stride_s,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = o < elements
    b_sum = tl.load(p_parts + o, mask=m, other=0.0)
    for _ in range(1, SPLITS):
        p_parts += elements
        b_sum += tl.load(p_parts + o, mask=m, other=0.0)
    c = o % C_per_group
    tap = o // C_per_group % (T * R * S)
    k = o // C_per_group // (T * R * S)
    o_dw = k * stride_k + c * stride_c
    o_dw += tap // (R * S) * stride_t + tap // S % R * stride_r + tap % S * stride_s
    tl.store(p_dw + o_dw, b_sum.to(p_dw.dtype.element_ty), mask=m)


def splits_for(programs: int, most: int) -> int:
    """Into how many parts to cut a sum that `programs` programs compute, at most `most`; by the
    problem alone, so that a gradient has the same bits on every GPU.
    """
    return max(1, min(most, _PROGRAMS // max(programs, 1)))


def partials_like(dw: Tensor, splits: int) -> Tensor:
    """Room for `splits` sums of a gradient [K, C/groups, T, R, S]: [splits, K, T, R, S, C/groups] in
    float32, or float64 for float64.
    """
    wide = torch.float64 if dw.dtype == torch.float64 else torch.float32
    K, C, T, R, S = dw.shape
    return torch.empty((splits, K, T, R, S, C), dtype=wide, device=dw.device)


def sum_partials(parts: Tensor, dw: Tensor) -> None:
    """dw [K, C/groups, T, R, S], of any strides, from `partials_like(dw, splits)`."""
    K, C, T, R, S = dw.shape
    elements = K * C * T * R * S
    stride_k, stride_c, stride_t, stride_r, stride_s = dw.stride()
    launch(
        _kernel, (triton.cdiv(elements, _BLOCK),), p_parts=parts, p_dw=dw, SPLITS=parts.shape[0],
        elements=elements, C_per_group=C, stride_k=stride_k, stride_c=stride_c, stride_t=stride_t,
        stride_r=stride_r, stride_s=stride_s, T=T, R=R, S=S, BLOCK=_BLOCK,
    )  # fmt: skip
