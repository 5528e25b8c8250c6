"""The three directions of conv run from Python: by a Triton row, or by torch's own kernel.

For CUDA tensors where the op library has no CUDA kernels, and for every tensor where there is no op
library. Functions take what aten's convolution takes, lists expanded to one number per axis.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fastconv import policy, reference
from fastconv.ops.formulas import Geometry, sum_pixels
from fastconv.ops.layout import (
    dense_strides,
    gradient_strides,
    result_is_channels_last,
    strides_like_channels_last,
)
from fastconv.ops.rows import row_for
from fastconv.problem import Direction, output_extent
from fastconv.tensors import DTYPES, layout_of, problem_of

__all__ = [
    "bias_grad",
    "conv",
    "conv_dgrad",
    "conv_wgrad",
    "forward_on_triton",
    "output_size",
    "wgrad_on_triton",
]

Size = Sequence[int]


def output_size(x: Sequence[int], w: Sequence[int], geometry: Geometry) -> list[int] | None:
    """The sizes of conv's result; None where the operands do not fit each other or it is empty."""
    axes = len(x) - 2
    stride, padding, dilation, groups = geometry
    if not 1 <= axes <= 3 or len(w) != len(x) or min((*x[1:], *w, groups)) < 1:
        return None
    if x[1] != w[1] * groups or w[0] % groups:
        return None
    if not (len(stride) == len(padding) == len(dilation) == axes) or min(padding) < 0:
        return None
    if min((*stride, *dilation)) < 1:
        return None
    size = [x[0], w[0]]
    for axis in range(axes):
        size.append(
            output_extent(x[axis + 2], w[axis + 2], stride[axis], padding[axis], dilation[axis])
        )
    return size if min(size[1:]) > 0 else None


def _fit(*tensors: Tensor | None) -> bool:
    """Whether the tensors share one of our dtypes and a device."""
    given = [t for t in tensors if t is not None]
    return given[0].dtype in DTYPES and all(
        t.dtype == given[0].dtype and t.device == given[0].device for t in given
    )


def _check_epilogue(
    size: Size, like: Tensor, scale: Tensor | None, residual: Tensor | None, activation: str
) -> None:
    if activation not in reference.ACTIVATIONS:
        known = ", ".join(reference.ACTIVATIONS)
        raise RuntimeError(f"fastconv: activation='{activation}' is not one of {known}")
    if scale is not None and (tuple(scale.shape) != (size[1],) or not _fit(like, scale)):
        raise RuntimeError(
            f"fastconv: scale has to be one number per output channel ({size[1]}) in the input's "
            "dtype, on its device"
        )
    if residual is not None and (list(residual.shape) != list(size) or not _fit(like, residual)):
        raise RuntimeError("fastconv: residual has to have the output's shape, dtype and device")


def forward_on_triton(
    direction: Direction,
    source: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    size: Size,
    geometry: Geometry,
    name: str = "",
    must_run: bool = False,
    scale: Tensor | None = None,
    residual: Tensor | None = None,
    activation: str = "none",
) -> Tensor | None:
    """fprop or dgrad, of sizes `size`; None where torch's kernel is to run."""
    _check_epilogue(size, source, scale, residual, activation)
    if not _fit(source, weight, bias):
        return None
    stride, _, dilation, groups = geometry
    fprop = direction == "fprop"
    x, y = (source.shape, size) if fprop else (size, source.shape)
    x_strides = source.stride()
    if not fprop:
        x_strides = tuple(dense_strides(x, strides_like_channels_last(y, source.stride())))
    last = result_is_channels_last(x, x_strides, weight, stride, dilation, groups)
    other = "nhwc" if last and len(x) > 3 else "nchw"
    layouts = (layout_of(source), other) if fprop else (other, layout_of(source))
    p = problem_of(x, weight.shape, y, geometry, source.dtype, layouts)
    row = row_for(direction, p, source.device, name, must_run)
    if row is None:
        return None
    from fastconv.triton import call

    out = source.new_empty_strided(size, dense_strides(size, last))
    call.run_forward(row, p, source, weight, out, bias, scale, residual, activation)
    policy.note_kernel(direction, row.name)
    return out


def wgrad_on_triton(
    grad: Tensor,
    input: Tensor,
    size: Size,
    strides: Size,
    geometry: Geometry,
    name: str = "",
    must_run: bool = False,
) -> Tensor | None:
    """wgrad, of sizes `size` and exactly `strides`; None where torch's kernel is to run."""
    if not _fit(grad, input):
        return None
    layouts = layout_of(input), layout_of(grad)
    p = problem_of(input.shape, size, grad.shape, geometry, input.dtype, layouts)
    row = row_for("wgrad", p, input.device, name, must_run)
    if row is None:
        return None
    from fastconv.triton import call

    out = input.new_empty_strided(size, strides)
    call.run_wgrad(row, p, input, grad, out)
    policy.note_kernel("wgrad", row.name)
    return out


def conv(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Size,
    dilation: Size,
    groups: int,
    kernel_name: str = "",
    scale: Tensor | None = None,
    residual: Tensor | None = None,
    activation: str = "none",
    packed: Tensor | None = None,
) -> Tensor:
    """As torch.ops.fastconv.conv; torch's kernel serves where no row is known to win, and, with an
    epilogue, where none takes it.
    """
    geometry = Geometry(tuple(stride), tuple(padding), tuple(dilation), groups)
    epilogue = (scale, residual, activation)
    fused = scale is not None or residual is not None or activation != "none"
    size = output_size(input.shape, weight.shape, geometry)
    if size is not None:
        out = forward_on_triton(
            "fprop", input, weight, bias, size, geometry, kernel_name, fused, *epilogue
        )
        if out is not None:
            return out
    policy.note_kernel("fprop", None)
    if not fused:
        return reference.conv(input, weight, bias, *geometry)
    sums = reference.conv(input, weight, None, *geometry)
    return reference.epilogue(sums, bias, *epilogue)


def conv_dgrad(
    grad: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    input_size: Size,
    stride: Size,
    padding: Size,
    dilation: Size,
    groups: int,
    kernel_name: str = "",
    scale: Tensor | None = None,
    residual: Tensor | None = None,
    activation: str = "none",
    packed: Tensor | None = None,
) -> Tensor:
    """As torch.ops.fastconv.conv_dgrad."""
    geometry = Geometry(tuple(stride), tuple(padding), tuple(dilation), groups)
    epilogue = (scale, residual, activation)
    fused = scale is not None or residual is not None or activation != "none"
    size = list(input_size)
    if output_size(size, weight.shape, geometry) != list(grad.shape):
        raise RuntimeError("fastconv: conv_dgrad: grad does not have the sizes of conv's output")
    out = forward_on_triton(
        "dgrad", grad, weight, bias, size, geometry, kernel_name, fused, *epilogue
    )  # fmt: skip
    if out is not None:
        return out
    policy.note_kernel("dgrad", None)
    if not fused:
        return reference.conv_dgrad(grad, weight, size, *geometry, bias=bias)
    sums = reference.conv_dgrad(grad, weight, size, *geometry)
    return reference.epilogue(sums, bias, *epilogue)


def conv_wgrad(
    grad: Tensor,
    input: Tensor,
    weight_size: Size,
    weight_stride: Size,
    stride: Size,
    padding: Size,
    dilation: Size,
    groups: int,
    kernel_name: str = "",
) -> Tensor:
    """As torch.ops.fastconv.conv_wgrad."""
    geometry = Geometry(tuple(stride), tuple(padding), tuple(dilation), groups)
    size = list(weight_size)
    if output_size(input.shape, size, geometry) != list(grad.shape):
        raise RuntimeError("fastconv: conv_wgrad: grad does not have the sizes of conv's output")
    strides = gradient_strides(size, weight_stride)
    out = wgrad_on_triton(grad, input, size, strides, geometry, kernel_name)
    if out is not None:
        return out
    policy.note_kernel("wgrad", None)
    return reference.conv_wgrad(grad, input, size, strides, *geometry)


def bias_grad(grad: Tensor) -> Tensor:
    """As torch.ops.fastconv.conv_bias_grad: in float32 for 16-bit numbers, in a fixed order."""
    return sum_pixels(grad)
