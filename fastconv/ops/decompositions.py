"""The public ops in terms of aten's, for exporters that know aten alone (`torch.onnx.export`).

They are found by who looks into torch's table for ops that he has no translation of. Graphs of
`torch.export` and of `torch.compile`, whose tables are their own, keep the ops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table, meta_table

from fastconv import reference
from fastconv.ops import public

__all__: list[str] = []

Size = Sequence[int]


def _conv(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: Size, padding: Size, dilation: Size,
    groups: int, kernel_name: str = "", scale: Tensor | None = None, residual: Tensor | None = None,
    activation: str = "none", packed: Tensor | None = None,
) -> Tensor:  # fmt: skip
    if scale is None:
        sums, bias = reference.conv(input, weight, bias, stride, padding, dilation, groups), None
    else:
        sums = reference.conv(input, weight, None, stride, padding, dilation, groups)
    return reference.epilogue(sums, bias, scale, residual, activation)


def _conv_dgrad(
    grad: Tensor, weight: Tensor, bias: Tensor | None, input_size: Size, stride: Size,
    padding: Size, dilation: Size, groups: int, kernel_name: str = "", scale: Tensor | None = None,
    residual: Tensor | None = None, activation: str = "none", packed: Tensor | None = None,
) -> Tensor:  # fmt: skip
    geometry = (input_size, stride, padding, dilation, groups)
    if scale is None:
        sums, bias = reference.conv_dgrad(grad, weight, *geometry, bias=bias), None
    else:
        sums = reference.conv_dgrad(grad, weight, *geometry)
    return reference.epilogue(sums, bias, scale, residual, activation)


def _register() -> None:
    ops: Any = torch.ops.fastconv
    decomposition_table[ops.conv.default] = _conv
    decomposition_table[ops.conv_dgrad.default] = _conv_dgrad
    # With unknown sizes a fake tensor would ask the decomposition, were there no meta function.
    meta_table[ops.conv.default] = public.fake_conv
    meta_table[ops.conv_dgrad.default] = public.fake_dgrad


_register()
