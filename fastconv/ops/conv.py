"""The conv family under autograd: fprop, dgrad and wgrad, each one's derivative made of the others.

Two ways lead to the same kernels. In eager an `autograd.Function` with `jvp` and `vmap` calls the
short ops (`_conv`, `_conv_backward`): forward mode and `torch.func` need the Function. Under a
compiler, a dispatch mode or for a tensor subclass the public ops are called, whose formula is
registered: compilers need that. `conv`, `conv_dgrad` and `conv_wgrad` below take the right one.

Letters: input [N, C, ...], weight [K, C/groups, ...], output [N, K, ...], one to three spatial
axes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd import forward_ad as _forward_ad
from torch.utils.flop_counter import conv_flop_count, register_flop_formula

from fastconv import _native
from fastconv.ops.layout import (
    dense_strides,
    gradient_strides,
    result_is_channels_last,
    strides_like_channels_last,
)

__all__ = ["Geometry", "conv", "conv_dgrad", "conv_wgrad", "recipe_of"]

Size = Sequence[int]


class Geometry(NamedTuple):
    """How the filter moves; one number per spatial axis."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


if _native.lib is not None:
    _call_conv: Callable[..., Tensor] = torch.ops.fastconv.conv
    _call_conv_dgrad: Callable[..., Tensor] = torch.ops.fastconv.conv_dgrad
    _call_conv_wgrad: Callable[..., Tensor] = torch.ops.fastconv.conv_wgrad
    _call_short_conv: Callable[..., Tensor] = torch.ops.fastconv._conv
    _call_short_backward: Callable[..., tuple[Tensor | None, ...]] = (
        torch.ops.fastconv._conv_backward
    )

_recipes: dict[Geometry, int] = {}


def recipe_of(geometry: Geometry) -> int:
    """The number under which the op library knows the geometry; -1 where its table is full."""
    known = _recipes.get(geometry)
    if known is not None:
        return known
    assert _native.lib is not None
    axes = len(geometry.stride)
    array = ctypes.c_int64 * axes
    number = int(
        _native.lib.fastconv_add_recipe(
            axes,
            array(*geometry.stride),
            array(*geometry.padding),
            array(*geometry.dilation),
            geometry.groups,
        )
    )
    if number >= 0:
        _recipes[geometry] = number
    return number


def is_plain() -> bool:
    """True where neither a transform, a dispatch mode nor forward-mode AD watches the call."""
    return not (
        torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or _forward_ad._current_level >= 0
    )


def _is_watched(*tensors: Tensor | None) -> bool:
    """Whether the call has to go through the public ops, where modes and subclasses see it."""
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or any(t is not None and type(t) not in (Tensor, torch.nn.Parameter) for t in tensors)
    )


def _sum_pixels(grad: Tensor) -> Tensor:
    return grad.sum((0, *range(2, grad.dim())))


# Formulas. `calls` is the family they recurse into: the hybrid functions or the public ops.


class _Family(NamedTuple):
    conv: Callable[..., Tensor]
    dgrad: Callable[..., Tensor]
    wgrad: Callable[..., Tensor]


def _conv_backward(
    calls: _Family, dy: Tensor, x: Tensor, w: Tensor, geometry: Geometry, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    return (
        calls.dgrad(dy, w, x.shape, geometry) if needs[0] else None,
        calls.wgrad(dy, x, w.shape, w.stride(), geometry) if needs[1] else None,
        _sum_pixels(dy) if needs[2] else None,
    )


def _dgrad_backward(
    calls: _Family, ddx: Tensor, dy: Tensor, w: Tensor, geometry: Geometry, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    return (
        calls.conv(ddx, w, None, geometry) if needs[0] else None,
        calls.wgrad(dy, ddx, w.shape, w.stride(), geometry) if needs[1] else None,
    )


def _wgrad_backward(
    calls: _Family, ddw: Tensor, dy: Tensor, x: Tensor, geometry: Geometry, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    return (
        calls.conv(x, ddw, None, geometry) if needs[0] else None,
        calls.dgrad(dy, ddw, x.shape, geometry) if needs[1] else None,
    )


def _add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


# vmap: a batch of inputs joins N; a batch of weights becomes groups.


def _front(t: Tensor, dim: int | None, size: int) -> Tensor:
    return t.expand(size, *t.shape) if dim is None else t.movedim(dim, 0)


def _into_batch(t: Tensor) -> Tensor:
    return t.flatten(0, 1)


def _into_channels(t: Tensor) -> Tensor:
    return t.movedim(0, 1).flatten(1, 2)


def _grouped(geometry: Geometry, size: int) -> Geometry:
    return geometry._replace(groups=geometry.groups * size)


class _Conv(Function):
    @staticmethod
    def forward(x: Tensor, w: Tensor, b: Tensor | None, geometry: Geometry) -> Tensor:
        return _call_conv(x, w, b, *geometry)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, w, _, ctx.geometry = inputs
        ctx.save_for_backward(x, w)
        ctx.save_for_forward(x, w)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        return (*_conv_backward(_hybrid, dy, x, w, ctx.geometry, ctx.needs_input_grad), None)

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dw: Tensor | None, db: Tensor | None, *_: None) -> Tensor:
        x, w = ctx.saved_tensors
        out = None if dx is None else conv(dx, w, None, ctx.geometry)
        out = _add(out, None if dw is None else conv(x, dw, None, ctx.geometry))
        if db is not None:
            db = db.reshape(-1, *(1,) * (x.dim() - 2))
            out = db.expand(conv(x, w, None, ctx.geometry).shape) if out is None else out + db
        assert out is not None
        return out

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        x: Tensor,
        w: Tensor,
        b: Tensor | None,
        geometry: Geometry,
    ) -> tuple[Tensor, int]:
        size: int = info.batch_size
        x_dim, w_dim, b_dim = in_dims[:3]
        if w_dim is None:
            folded = conv(_into_batch(_front(x, x_dim, size)), w, None, geometry)
            out, at = folded.unflatten(0, (size, -1)), 0
        else:
            weights = _into_batch(_front(w, w_dim, size))
            folded = conv(
                _into_channels(_front(x, x_dim, size)), weights, None, _grouped(geometry, size)
            )
            out, at = folded.unflatten(1, (size, -1)).movedim(1, 0), 0
        if b is not None:
            bias = _front(b, b_dim, size)
            out = out + bias.reshape(size, 1, -1, *(1,) * (out.dim() - 3))
        return out, at


class _Dgrad(Function):
    @staticmethod
    def forward(dy: Tensor, w: Tensor, size: Size, geometry: Geometry) -> Tensor:
        return _call_conv_dgrad(dy, w, None, size, *geometry)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        dy, w, ctx.size, ctx.geometry = inputs
        ctx.save_for_backward(dy, w)
        ctx.save_for_forward(dy, w)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor) -> tuple[Tensor | None, ...]:
        dy, w = ctx.saved_tensors
        needs = ctx.needs_input_grad
        return (*_dgrad_backward(_hybrid, ddx, dy, w, ctx.geometry, needs), None, None)

    @staticmethod
    def jvp(ctx: Any, dy_t: Tensor | None, w_t: Tensor | None, *_: None) -> Tensor:
        dy, w = ctx.saved_tensors
        out = None if dy_t is None else conv_dgrad(dy_t, w, ctx.size, ctx.geometry)
        out = _add(out, None if w_t is None else conv_dgrad(dy, w_t, ctx.size, ctx.geometry))
        assert out is not None
        return out

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        dy: Tensor,
        w: Tensor,
        size: Size,
        geometry: Geometry,
    ) -> tuple[Tensor, int]:
        count: int = info.batch_size
        grads = _front(dy, in_dims[0], count)
        if in_dims[1] is None:
            folded = conv_dgrad(_into_batch(grads), w, (count * size[0], *size[1:]), geometry)
            return folded.unflatten(0, (count, -1)), 0
        weights = _into_batch(_front(w, in_dims[1], count))
        wide = (size[0], count * size[1], *size[2:])
        folded = conv_dgrad(_into_channels(grads), weights, wide, _grouped(geometry, count))
        return folded.unflatten(1, (count, -1)).movedim(1, 0), 0


class _Wgrad(Function):
    @staticmethod
    def forward(dy: Tensor, x: Tensor, size: Size, stride: Size, geometry: Geometry) -> Tensor:
        return _call_conv_wgrad(dy, x, size, stride, *geometry)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        dy, x, ctx.size, ctx.stride, ctx.geometry = inputs
        ctx.save_for_backward(dy, x)
        ctx.save_for_forward(dy, x)

    @staticmethod
    def backward(ctx: Any, ddw: Tensor) -> tuple[Tensor | None, ...]:
        dy, x = ctx.saved_tensors
        needs = ctx.needs_input_grad
        return (*_wgrad_backward(_hybrid, ddw, dy, x, ctx.geometry, needs), None, None, None)

    @staticmethod
    def jvp(ctx: Any, dy_t: Tensor | None, x_t: Tensor | None, *_: None) -> Tensor:
        dy, x = ctx.saved_tensors
        rest = (ctx.size, ctx.stride, ctx.geometry)
        out = None if dy_t is None else conv_wgrad(dy_t, x, *rest)
        out = _add(out, None if x_t is None else conv_wgrad(dy, x_t, *rest))
        assert out is not None
        return out

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        dy: Tensor,
        x: Tensor,
        size: Size,
        stride: Size,
        geometry: Geometry,
    ) -> tuple[Tensor, int]:
        count: int = info.batch_size
        grads = _into_channels(_front(dy, in_dims[0], count))
        inputs = _into_channels(_front(x, in_dims[1], count))
        wide = (count * size[0], *size[1:])
        folded = conv_wgrad(
            grads, inputs, wide, dense_strides(wide, False), _grouped(geometry, count)
        )
        return folded.unflatten(0, (count, -1)), 0


class ShortConv(Function):
    """conv in eager with nothing but reverse mode watching: one op forward, one op backward."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, recipe: int, geometry: Geometry
    ) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.recipe = recipe
        ctx.geometry = geometry
        return _call_short_conv(x, w, b, recipe)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        needs = ctx.needs_input_grad
        if torch.is_grad_enabled() or not is_plain():
            return (*_conv_backward(_hybrid, dy, x, w, ctx.geometry, needs), None, None)
        mask = needs[0] + 2 * needs[1] + 4 * needs[2]
        return (*_call_short_backward(dy, x, w, ctx.recipe, mask), None, None)


_apply_conv: Callable[..., Tensor] = _Conv.apply
_apply_dgrad: Callable[..., Tensor] = _Dgrad.apply
_apply_wgrad: Callable[..., Tensor] = _Wgrad.apply
_apply_short: Callable[..., Tensor] = ShortConv.apply


def conv(x: Tensor, w: Tensor, b: Tensor | None, geometry: Geometry) -> Tensor:
    """The convolution of `x` [N, C, ...] with `w` [K, C/groups, ...], differentiable in every mode.

    Under autocast the operands are expected to be cast already. Raises RuntimeError in torch's
    words where the arguments do not fit each other.
    """
    if _is_watched(x, w, b):
        return _call_conv(x, w, b, *geometry)
    if is_plain() and (recipe := recipe_of(geometry)) >= 0:
        return _apply_short(x, w, b, recipe, geometry)
    return _apply_conv(x, w, b, geometry)


def conv_dgrad(dy: Tensor, w: Tensor, size: Size, geometry: Geometry) -> Tensor:
    """The gradient of `conv` by its input, of extents `size`, from `dy` [N, K, ...]."""
    if _is_watched(dy, w):
        return _call_conv_dgrad(dy, w, None, size, *geometry)
    return _apply_dgrad(dy, w, tuple(size), geometry)


def conv_wgrad(dy: Tensor, x: Tensor, size: Size, stride: Size, geometry: Geometry) -> Tensor:
    """The gradient of `conv` by its weight, of extents `size` and exactly the strides `stride`."""
    if _is_watched(dy, x):
        return _call_conv_wgrad(dy, x, size, stride, *geometry)
    return _apply_wgrad(dy, x, tuple(size), tuple(stride), geometry)


_hybrid = _Family(conv, conv_dgrad, conv_wgrad)


# The public ops.


def _op_conv(x: Tensor, w: Tensor, b: Tensor | None, geometry: Geometry) -> Tensor:
    return _call_conv(x, w, b, *geometry)


def _op_dgrad(dy: Tensor, w: Tensor, size: Size, geometry: Geometry) -> Tensor:
    return _call_conv_dgrad(dy, w, None, size, *geometry)


def _op_wgrad(dy: Tensor, x: Tensor, size: Size, stride: Size, geometry: Geometry) -> Tensor:
    return _call_conv_wgrad(dy, x, size, stride, *geometry)


_public = _Family(_op_conv, _op_dgrad, _op_wgrad)


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
    return (*_conv_backward(_public, dy, x, w, ctx.geometry, ctx.needs_input_grad), *(None,) * 9)


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
    bias = _sum_pixels(ddx) if needs[2] else None
    return (*_dgrad_backward(_public, ddx, dy, w, ctx.geometry, needs), bias, *(None,) * 10)


def _wgrad_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    dy, x, _, _, stride, padding, dilation, groups, _ = inputs
    ctx.geometry = Geometry(tuple(stride), tuple(padding), tuple(dilation), groups)
    ctx.save_for_backward(dy, x)


def _wgrad_op_backward(ctx: Any, ddw: Tensor) -> tuple[Tensor | None, ...]:
    dy, x = ctx.saved_tensors
    needs = ctx.needs_input_grad
    return (*_wgrad_backward(_public, ddw, dy, x, ctx.geometry, needs), *(None,) * 7)


def _fake_conv(
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


def _fake_dgrad(
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


def _autocast(name: str, tensors: int) -> Callable[..., Tensor]:
    """The op with its leading tensors in the autocast dtype; float64 is left alone."""
    op = getattr(torch.ops.fastconv, name).default
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)

    def run(*args: Any, **kwargs: Any) -> Tensor:
        dtype = torch.get_autocast_dtype("cpu")
        cast = [a if i >= tensors else autocast_to(a, dtype) for i, a in enumerate(args)]
        for key in ("bias", "scale", "residual"):
            if kwargs.get(key) is not None:
                kwargs[key] = autocast_to(kwargs[key], dtype)
        with torch._C._ExcludeDispatchKeyGuard(keys):
            out: Tensor = op(*cast, **kwargs)
        return out

    return run


def autocast_to(tensor: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """What autocast hands to a convolution for `tensor`."""
    if tensor is None or not tensor.is_floating_point() or tensor.dtype == torch.float64:
        return tensor
    return tensor.to(dtype)


def _register() -> None:
    library = torch.library
    library.register_fake("fastconv::conv", _fake_conv)
    library.register_fake("fastconv::conv_dgrad", _fake_dgrad)
    library.register_fake("fastconv::conv_wgrad", _fake_wgrad)
    library.register_fake("fastconv::conv_bias_grad", _fake_bias_grad)
    library.register_fake("fastconv::conv_pack", _fake_pack)
    library.register_autograd("fastconv::conv", _conv_op_backward, setup_context=_conv_setup)
    library.register_autograd(
        "fastconv::conv_dgrad", _dgrad_op_backward, setup_context=_dgrad_setup
    )
    library.register_autograd(
        "fastconv::conv_wgrad", _wgrad_op_backward, setup_context=_wgrad_setup
    )
    for name, tensors in (("conv", 3), ("conv_dgrad", 3), ("conv_wgrad", 2)):
        _library.impl(name, _autocast(name, tensors), "AutocastCPU")

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


if _native.lib is not None:
    _library = torch.library.Library("fastconv", "IMPL")
    _register()
