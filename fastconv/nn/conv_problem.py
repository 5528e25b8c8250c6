"""The problem of a convolution module's call, torch's or ours, as `fastconv.explain` tells it."""

from __future__ import annotations

from typing import Any

import torch

from fastconv import tensors
from fastconv.ops.formulas import Geometry
from fastconv.ops.layout import result_is_channels_last
from fastconv.problem import ConvProblem
from fastconv.tensors import DTYPES, layout_of

__all__ = ["direction_of", "problem_of"]


def direction_of(layer: Any) -> str:
    """A transposed convolution is the dgrad of its problem."""
    return "dgrad" if layer.transposed else "fprop"


def _layouts(layer: Any, x: torch.Tensor, y: torch.Tensor, strides: Any) -> tuple[str, str]:
    """How input and output lie: the output by torch's rule, and the input, where it reads both ways
    (one channel, one pixel), as the output does.
    """
    steps, gaps, groups = strides
    last = y.dim() > 3 and result_is_channels_last(
        x.shape, x.stride(), layer.weight, steps, gaps, groups
    )
    out = "nhwc" if last else "nchw"
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    either = x.dim() in formats and x.is_contiguous(memory_format=formats[x.dim()])
    return ("nhwc" if either and last else layout_of(x)), out


def problem_of(layer: Any, x: torch.Tensor, y: torch.Tensor) -> ConvProblem | None:
    """The problem of a convolution module called with ``x`` [N,C,(D,(H,))W], giving ``y``, plain or
    transposed; None for other dtypes.
    """
    if x.dtype not in DTYPES:
        return None
    axes = layer.weight.dim() - 2
    if x.dim() == axes + 1:
        x, y = x[None], y[None]
    stride, dilation = (_numbers(v, axes) for v in (layer.stride, layer.dilation))
    padding, extents = layer.padding, list(x.shape)
    if layer.padding_mode != "zeros":  # the module pads beforehand
        amounts = layer._reversed_padding_repeated_twice
        for i in range(axes):
            extents[-1 - i] += amounts[2 * i] + amounts[2 * i + 1]
        padding = 0
    elif padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, layer.weight.shape[2:], strict=True)]
        extents[2:] = [e + t % 2 for e, t in zip(extents[2:], total, strict=True)]
        padding = [t // 2 for t in total]
    elif padding == "valid":
        padding = 0
    geometry = Geometry(stride, _numbers(padding, axes), dilation, layer.groups)
    source, result = _layouts(layer, x, y, (stride, dilation, layer.groups))
    if layer.transposed:
        sides, layouts = (tuple(y.shape), tuple(x.shape)), (result, source)
    else:
        sides, layouts = (tuple(extents), tuple(y.shape)), (source, result)
    return tensors.problem_of(sides[0], layer.weight.shape, sides[1], geometry, x.dtype, layouts)


def _numbers(value: Any, axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else tuple(value) * (axes // len(value))
