"""From torch's tensors to the problem record."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastconv.problem import ConvProblem

__all__ = ["DTYPES", "layout_of", "lifted", "problem_of"]

DTYPES = {torch.float32: "f32", torch.float64: "f64", torch.bfloat16: "bf16", torch.float16: "f16"}


def lifted(t: Tensor) -> Tensor:
    """[N, C, ...] with one to three spatial axes as a view with three."""
    if t.dim() == 3:
        return t[:, :, None, None]
    return t[:, :, None] if t.dim() == 4 else t


def layout_of(t: Tensor) -> str:
    """How an activation lies: NCHW, or NHWC, into which one that is dense in neither way is copied."""
    return "nchw" if lifted(t).is_contiguous() else "nhwc"


def _triple(values: Sequence[int], fill: int) -> list[int]:
    return [fill] * (3 - len(values)) + [int(v) for v in values]


def problem_of(
    x: Sequence[int],
    w: Sequence[int],
    y: Sequence[int],
    geometry: tuple[Sequence[int], Sequence[int], Sequence[int], int],
    dtype: torch.dtype,
    layouts: tuple[str, str],
) -> ConvProblem:
    """The record of a convolution of sizes x [N, C, ...] with w [K, C/groups, ...] to y [N, K, ...];
    `geometry` is stride, padding, dilation, groups, `layouts` those of x and y.
    """
    stride, padding, dilation, groups = geometry
    values = {"N": int(x[0]), "C": int(x[1]), "K": int(w[0]), "groups": int(groups)}
    for names, triple in (
        (("D", "H", "W"), _triple(x[2:], 1)),
        (("T", "R", "S"), _triple(w[2:], 1)),
        (("Z", "P", "Q"), _triple(y[2:], 1)),
        (("stride_d", "stride_h", "stride_w"), _triple(stride, 1)),
        (("pad_d", "pad_h", "pad_w"), _triple(padding, 0)),
        (("dilation_d", "dilation_h", "dilation_w"), _triple(dilation, 1)),
    ):
        values |= dict(zip(names, triple, strict=True))
    return ConvProblem(**values, dtype=DTYPES[dtype], x_layout=layouts[0], y_layout=layouts[1])
