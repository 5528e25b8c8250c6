"""The three directions as `torch.library.triton_op`: a compiler sees the launches inside.

`fastconv::triton_conv`, `triton_conv_dgrad` and `triton_conv_wgrad` compute what the ops without the
prefix do, but always from Python. Code compiled for tensors that only Triton's kernels take calls
them; the graph then holds the Triton kernels themselves, chosen for the sizes it was made for.
"""

# No postponed annotations here: torch reads the schemas off them.

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastconv.ops import portable
from fastconv.ops.formulas import (
    Family,
    Geometry,
    Size,
    conv_backward,
    dgrad_backward,
    wgrad_backward,
)

__all__ = ["conv", "conv_dgrad", "conv_wgrad"]


def _triton_conv(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    kernel_name: str = "",
) -> Tensor:
    return portable.conv(
        input, weight, bias, stride, padding, dilation, groups, kernel_name
    )  # fmt: skip


def _triton_conv_dgrad(
    grad: Tensor,
    weight: Tensor,
    input_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    kernel_name: str = "",
) -> Tensor:
    return portable.conv_dgrad(
        grad, weight, None, input_size, stride, padding, dilation, groups, kernel_name
    )  # fmt: skip


def _triton_conv_wgrad(
    grad: Tensor,
    input: Tensor,
    weight_size: Sequence[int],
    weight_stride: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    kernel_name: str = "",
) -> Tensor:
    return portable.conv_wgrad(
        grad, input, weight_size, weight_stride, stride, padding, dilation, groups, kernel_name
    )


_conv_op: Any = torch.library.triton_op("fastconv::triton_conv", _triton_conv, mutates_args=())
_dgrad_op: Any = torch.library.triton_op(
    "fastconv::triton_conv_dgrad", _triton_conv_dgrad, mutates_args=()
)
_wgrad_op: Any = torch.library.triton_op(
    "fastconv::triton_conv_wgrad", _triton_conv_wgrad, mutates_args=()
)


def conv(x: Tensor, w: Tensor, b: Tensor | None, geometry: Geometry) -> Tensor:
    """The convolution of x [N, C, ...] with w [K, C/groups, ...]."""
    return _conv_op(x, w, b, *geometry)  # type: ignore[no-any-return]


def conv_dgrad(dy: Tensor, w: Tensor, size: Size, geometry: Geometry) -> Tensor:
    """Its gradient by the input, of sizes `size`."""
    return _dgrad_op(dy, w, size, *geometry)  # type: ignore[no-any-return]


def conv_wgrad(dy: Tensor, x: Tensor, size: Size, stride: Size, geometry: Geometry) -> Tensor:
    """Its gradient by the weight, of sizes `size` and strides `stride`."""
    return _wgrad_op(dy, x, size, stride, *geometry)  # type: ignore[no-any-return]


_family = Family(conv, conv_dgrad, conv_wgrad)


def _geometry_of(inputs: tuple[Any, ...], first: int) -> Geometry:
    stride, padding, dilation, groups = inputs[first : first + 4]
    return Geometry(tuple(stride), tuple(padding), tuple(dilation), groups)


def _register(op: Any, first: int, saved: tuple[int, int], formula: Any, rest: int) -> None:
    """`formula` is the family's; `first` the place of stride, `saved` of what it needs, `rest` the
    number of arguments without a gradient.
    """

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.geometry = _geometry_of(inputs, first)
        ctx.save_for_backward(*(inputs[i] for i in saved))

    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        gradients = formula(_family, grad, *ctx.saved_tensors, ctx.geometry, ctx.needs_input_grad)
        return (*gradients, *(None,) * rest)

    op.register_autograd(backward, setup_context=setup)


_register(_conv_op, 3, (0, 1), conv_backward, 5)
_register(_dgrad_op, 3, (0, 1), dgrad_backward, 6)
_register(_wgrad_op, 4, (0, 1), wgrad_backward, 7)
