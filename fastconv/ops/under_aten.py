"""Triton's rows under aten's ops, where the op library is not (enable()): convolution's here.

The twin of csrc/torch/aten_conv.cc for CUDA tensors without CUDA kernels: with the flag off, for
arguments that are unusual, or where no row is known to win, the call goes on to torch's kernel.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastconv import _native, _triton, policy
from fastconv.ops import pool_under_aten, portable
from fastconv.ops.formulas import Geometry, sum_pixels
from fastconv.ops.layout import gradient_strides
from fastconv.problem import Direction

__all__ = ["install"]

Size = Sequence[int]


def _geometry(
    spatial: int, stride: Size, padding: Size, dilation: Size, groups: int
) -> Geometry | None:
    """Lists of one number expanded; None for what is no list of the problem's axes."""
    s, p, d = (tuple(v) * spatial if len(v) == 1 else tuple(v) for v in (stride, padding, dilation))
    return Geometry(s, p, d, groups) if len(s) == len(p) == len(d) == spatial else None


def _transposed_size(x: Size, w: Size, geometry: Geometry, extra: Size) -> list[int] | None:
    """The sizes of a transposed convolution's result; None where something is wrong with it."""
    axes = range(len(x) - 2)
    extra = tuple(extra) * len(axes) if len(extra) == 1 else tuple(extra)
    if len(extra) != len(axes) or len(w) != len(x):
        return None
    size = [x[0], w[1] * geometry.groups]
    for i in axes:
        stride, pad, gap = geometry.stride[i], geometry.padding[i], geometry.dilation[i]
        if extra[i] >= max(stride, gap) or extra[i] < 0:
            return None
        size.append((x[i + 2] - 1) * stride - 2 * pad + gap * (w[i + 2] - 1) + extra[i] + 1)
    return size if portable.output_size(size, w, geometry) == list(x) else None


def _convolution(
    theirs: Any, keys: Any, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Size,
    padding: Size, dilation: Size, transposed: bool, output_padding: Size, groups: int,
) -> Any:  # fmt: skip
    out = _ours(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)
    if out is not None:
        return out
    policy.note_kernel("dgrad" if transposed else "fprop", None)
    return theirs.call_boxed(
        keys, input, weight, bias, stride, padding, dilation, transposed, output_padding, groups
    )


def _ours(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: Size, padding: Size,
    dilation: Size, transposed: bool, output_padding: Size, groups: int,
) -> Tensor | None:  # fmt: skip
    geometry = _geometry(input.dim() - 2, stride, padding, dilation, groups)
    if not _native.state.fastconv_get_enabled() or geometry is None:
        return None
    direction: Direction = "dgrad" if transposed else "fprop"
    size = (
        _transposed_size(input.shape, weight.shape, geometry, output_padding)
        if transposed
        else portable.output_size(input.shape, weight.shape, geometry)
    )
    if size is None:
        return None
    return portable.forward_on_triton(
        direction, input, weight, bias, size, geometry, must_run=False
    )  # fmt: skip


def _backward(
    theirs: Any, keys: Any, grad: Tensor, input: Tensor, weight: Tensor, bias_sizes: Size | None,
    stride: Size, padding: Size, dilation: Size, transposed: bool, output_padding: Size,
    groups: int, mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    geometry = _geometry(input.dim() - 2, stride, padding, dilation, groups)
    x, y = (grad, input) if transposed else (input, grad)
    found: list[Tensor | None] = [None, None, None]
    if (
        _native.state.fastconv_get_enabled()
        and geometry is not None
        and portable.output_size(x.shape, weight.shape, geometry) == list(y.shape)
    ):
        if mask[0]:
            found[0] = portable.forward_on_triton(
                "fprop" if transposed else "dgrad", grad, weight, None, input.shape, geometry,
                must_run=False,
            )  # fmt: skip
        if mask[1]:
            strides = gradient_strides(weight.shape, weight.stride())
            found[1] = portable.wgrad_on_triton(
                y, x, weight.shape, strides, geometry, must_run=False
            )  # fmt: skip
    left = [bool(wanted) and found[i] is None for i, wanted in enumerate(mask)]
    if mask[2] and not (left[0] or left[1]):
        found[2], left[2] = sum_pixels(grad), False
    if any(left):
        if left[0]:
            policy.note_kernel("fprop" if transposed else "dgrad", None)
        if left[1]:
            policy.note_kernel("wgrad", None)
        rest = theirs.call_boxed(
            keys, grad, input, weight, bias_sizes, stride, padding, dilation, transposed,
            output_padding, groups, left,
        )  # fmt: skip
        found = [rest[i] if left[i] else found[i] for i in range(3)]
    return found[0], found[1], found[2]


@functools.cache
def install() -> torch.library.Library | None:
    """Registers every family's, once, for the devices whose tensors only Triton's kernels take."""
    keys = [
        device.upper()
        for device in _triton.device_types()
        if _native.lib is None or (device == "cuda" and not _native.has_cuda)
    ]
    if not keys:
        return None
    library = torch.library.Library("aten", "IMPL")
    for key in keys:
        for name, ours in (
            ("convolution", _convolution),
            ("convolution_backward", _backward),
            *pool_under_aten.overrides(),
        ):
            theirs = torch.library.get_kernel(f"aten::{name}", key)
            library.impl(name, functools.partial(_with_keys, ours, theirs), key, with_keyset=True)
    return library


def _with_keys(ours: Any, theirs: Any, keys: Any, *args: Any) -> Any:
    return ours(theirs, keys, *args)
