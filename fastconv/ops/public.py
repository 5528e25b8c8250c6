"""The public ops of the conv family: fakes, registered autograd, autocast, FLOP formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import conv_flop_count, register_flop_formula

from fastconv.ops import define as define  # the ops come first
from fastconv.ops.autocast import cast, cast_weight
from fastconv.ops.fake import register_fake
from fastconv.ops.formulas import (
    Family,
    Geometry,
    Size,
    conv_backward,
    transpose_backward,
    wgrad_backward,
)
from fastconv.ops.layout import (
    dense_strides,
    gradient_strides,
    result_is_channels_last,
    strides_like_channels_last,
)

__all__ = ["fake_conv", "fake_dgrad"]

_call_conv: Callable[..., Tensor] = torch.ops.fastconv.conv
_call_conv_dgrad: Callable[..., Tensor] = torch.ops.fastconv.conv_dgrad
_call_conv_wgrad: Callable[..., Tensor] = torch.ops.fastconv.conv_wgrad


def _op_conv(x: Tensor, w: Tensor, b: Tensor | None, geometry: Geometry) -> Tensor:
    return _call_conv(x, w, b, *geometry)


def _op_dgrad(dy: Tensor, w: Tensor, size: Size, geometry: Geometry) -> Tensor:
    return _call_conv_dgrad(dy, w, None, size, *geometry)


def _op_wgrad(dy: Tensor, x: Tensor, size: Size, stride: Size, geometry: Geometry) -> Tensor:
    return _call_conv_wgrad(dy, x, size, stride, *geometry)


_public = Family(_op_conv, _op_dgrad, _op_wgrad)


def _fused(scale: object, residual: object, activation: str, packed: object) -> bool:
    return scale is not None or residual is not None or activation != "none" or packed is not None


_NO_FUSED_GRADIENT = (
    "fastconv::{}: the fused epilogue and packed weights have no gradient; "
    "compose the op with torch's own scale, add and activation where one is needed"
)


def _conv_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, w, _, stride, padding, dilation, groups, _, scale, residual, activation, packed = inputs
    ctx.geometry = Geometry(tuple(stride), tuple(padding), tuple(dilation), groups)
    ctx.fused = _fused(scale, residual, activation, packed)
    ctx.save_for_backward(x, w)


def _conv_op_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    if ctx.fused:
        raise RuntimeError(_NO_FUSED_GRADIENT.format("conv"))
    x, w = ctx.saved_tensors
    return (*conv_backward(_public, dy, x, w, ctx.geometry, ctx.needs_input_grad), *(None,) * 9)


def _dgrad_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    dy, w, _, _, stride, padding, dilation, groups, _, scale, residual, activation, packed = inputs
    ctx.geometry = Geometry(tuple(stride), tuple(padding), tuple(dilation), groups)
    ctx.fused = _fused(scale, residual, activation, packed)
    ctx.save_for_backward(dy, w)


def _dgrad_op_backward(ctx: Any, ddx: Tensor) -> tuple[Tensor | None, ...]:
    if ctx.fused:
        raise RuntimeError(_NO_FUSED_GRADIENT.format("conv_dgrad"))
    dy, w = ctx.saved_tensors
    needs = ctx.needs_input_grad
    return (*transpose_backward(_public, ddx, dy, w, ctx.geometry, needs), *(None,) * 10)


def _wgrad_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    dy, x, _, _, stride, padding, dilation, groups, _ = inputs
    ctx.geometry = Geometry(tuple(stride), tuple(padding), tuple(dilation), groups)
    ctx.save_for_backward(dy, x)


def _wgrad_op_backward(ctx: Any, ddw: Tensor) -> tuple[Tensor | None, ...]:
    dy, x = ctx.saved_tensors
    needs = ctx.needs_input_grad
    return (*wgrad_backward(_public, ddw, dy, x, ctx.geometry, needs), *(None,) * 7)


def fake_conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    stride: Size,
    padding: Size,
    dilation: Size,
    groups: int,
    *_: object,
) -> Tensor:
    torch._check(x.dim() == w.dim(), lambda: f"expected input of {w.dim()} axes, got {x.dim()}")
    torch._check(
        x.shape[1] == w.shape[1] * groups,
        lambda: (
            f"Given groups={groups}, weight of size {list(w.shape)}, expected "
            f"input{list(x.shape)} to have {w.shape[1] * groups} channels, but got "
            f"{x.shape[1]} channels instead"
        ),
    )
    size = [x.shape[0], w.shape[0]]
    for i, (s, p, d) in enumerate(zip(stride, padding, dilation, strict=True)):
        size.append((x.shape[i + 2] + 2 * p - d * (w.shape[i + 2] - 1) - 1) // s + 1)
    last = result_is_channels_last(x.shape, x.stride(), w, stride, dilation, groups)
    return x.new_empty_strided(size, dense_strides(size, last))


def fake_dgrad(
    dy: Tensor,
    w: Tensor,
    b: Tensor | None,
    size: Size,
    stride: Size,
    padding: Size,
    dilation: Size,
    groups: int,
    *_: object,
) -> Tensor:
    strides = dense_strides(size, strides_like_channels_last(dy.shape, dy.stride()))
    last = result_is_channels_last(size, strides, w, stride, dilation, groups)
    return dy.new_empty_strided(size, dense_strides(size, last))


def _fake_wgrad(dy: Tensor, x: Tensor, size: Size, stride: Size, *_: object) -> Tensor:
    return x.new_empty_strided(size, gradient_strides(size, stride))


def _fake_bias_grad(grad: Tensor) -> Tensor:
    return grad.new_empty(grad.shape[1])


def _fake_pack(w: Tensor, *_: object) -> Tensor:
    size = torch.library.get_ctx().new_dynamic_size()
    return w.new_empty(size, dtype=torch.uint8)


def _autocast(name: str, tensors: int, device: str) -> Callable[..., Tensor]:
    """The op with its leading tensors in the autocast dtype; float64 is left alone."""
    op = getattr(torch.ops.fastconv, name).default
    weighted = name != "conv_wgrad"
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, f"Autocast{device.upper()}"))

    def run(*args: Any, **kwargs: Any) -> Tensor:
        dtype = torch.get_autocast_dtype(device)
        given = [a if i >= tensors else cast(a, dtype) for i, a in enumerate(args)]
        if weighted:
            given[1] = cast_weight(args[1], dtype)
        for key in ("bias", "scale", "residual"):
            if kwargs.get(key) is not None:
                kwargs[key] = cast(kwargs[key], dtype)
        with torch._C._ExcludeDispatchKeyGuard(keys):
            out: Tensor = op(*given, **kwargs)
        return out

    return run


def _register() -> None:
    library = torch.library
    register_fake("conv", fake_conv)
    register_fake("conv_dgrad", fake_dgrad)
    register_fake("conv_wgrad", _fake_wgrad)
    register_fake("conv_bias_grad", _fake_bias_grad)
    register_fake("conv_pack", _fake_pack)
    library.register_autograd("fastconv::conv", _conv_op_backward, setup_context=_conv_setup)
    library.register_autograd(
        "fastconv::conv_dgrad", _dgrad_op_backward, setup_context=_dgrad_setup
    )
    library.register_autograd(
        "fastconv::conv_wgrad", _wgrad_op_backward, setup_context=_wgrad_setup
    )
    for name, tensors in (("conv", 3), ("conv_dgrad", 3), ("conv_wgrad", 2)):
        for device in ("cpu", "cuda"):
            _library.impl(name, _autocast(name, tensors, device), f"Autocast{device.upper()}")

    ops = torch.ops.fastconv

    @register_flop_formula(ops.conv)
    def _(x: Size, w: Size, *_: object, out_shape: Size, **__: object) -> int:
        return int(conv_flop_count(list(x), list(w), list(out_shape), transposed=False))

    @register_flop_formula(ops.conv_dgrad)
    def _(dy: Size, w: Size, *_: object, out_shape: Size, **__: object) -> int:
        return int(conv_flop_count(list(dy), list(w), list(out_shape), transposed=True))

    @register_flop_formula(ops.conv_wgrad)
    def _(dy: Size, x: Size, *_: object, out_shape: Size, **__: object) -> int:
        return int(conv_flop_count(list(x), list(out_shape), list(dy), transposed=False))


_library = torch.library.Library("fastconv", "IMPL")
_register()
