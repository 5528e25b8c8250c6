"""The conv family under autograd: fprop, dgrad and wgrad, each one's derivative made of the others.

Three ways lead to the same kernels, and ops/watch.py says which: an `autograd.Function` with `jvp`
and `vmap`, which forward mode and `torch.func` need; the public ops, whose formula is registered,
which compilers and dispatch modes need; and, where reverse mode alone has to know, a Function over
the short ops (`_conv`, `_conv_backward`), one forward and one backward. `conv`, `conv_transpose`,
`conv_dgrad` and `conv_wgrad` below take the right one.

Letters: input [N, C, ...], weight [K, C/groups, ...], output [N, K, ...], one to three spatial
axes. A transposed convolution is dgrad: its input is [N, K, ...], its result [N, C, ...].
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from fastconv import _native
from fastconv.ops import define as define  # the ops come first
from fastconv.ops import triton_ops
from fastconv.ops.formulas import (
    Family,
    Geometry,
    Size,
    add,
    conv_backward,
    dgrad_backward,
    front,
    grouped,
    into_batch,
    into_channels,
    transpose_backward,
    wgrad_backward,
)
from fastconv.ops.layout import dense_strides
from fastconv.ops.watch import OP, SHORT, TORCH, for_compiler, way_of

__all__ = [
    "Geometry",
    "Interned",
    "apply_short",
    "conv",
    "conv_dgrad",
    "conv_transpose",
    "conv_wgrad",
    "geometry_id",
    "interned",
    "transposed_size",
]

_call_conv: Callable[..., Tensor] = torch.ops.fastconv.conv
_call_conv_dgrad: Callable[..., Tensor] = torch.ops.fastconv.conv_dgrad
_call_conv_wgrad: Callable[..., Tensor] = torch.ops.fastconv.conv_wgrad
if _native.lib is not None:
    _call_short_conv: Callable[..., Tensor] = torch.ops.fastconv._conv
    _call_short_backward: Callable[..., tuple[Tensor | None, ...]] = (
        torch.ops.fastconv._conv_backward
    )


class Interned(NamedTuple):
    """A geometry as the op library knows it."""

    number: int
    geometry: Geometry
    #: Of a transposed convolution; None for a plain one.
    output_padding: tuple[int, ...] | None


_interned: dict[tuple[Geometry, tuple[int, ...] | None], Interned] = {}


def geometry_id(geometry: Geometry, output_padding: tuple[int, ...] | None = None) -> int:
    """The number by which the op library knows the geometry, of a transposed convolution where
    there is an output padding; -1 where its table is full, or where there is no library.
    """
    if _native.lib is None:
        return -1
    axes = len(geometry.stride)
    array = ctypes.c_int64 * axes
    return int(
        _native.lib.fastconv_intern_geometry(
            axes,
            array(*geometry.stride),
            array(*geometry.padding),
            array(*geometry.dilation),
            None if output_padding is None else array(*output_padding),
            output_padding is not None,
            geometry.groups,
        )
    )


def interned(geometry: Geometry, output_padding: tuple[int, ...] | None = None) -> Interned | None:
    """The geometry with its number; None where it has none."""
    key = (geometry, output_padding)
    known = _interned.get(key)
    if known is None:
        number = geometry_id(*key)
        if number < 0:
            return None
        known = _interned[key] = Interned(number, *key)
    return known


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
        return (*conv_backward(_hybrid, dy, x, w, ctx.geometry, ctx.needs_input_grad), None)

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dw: Tensor | None, db: Tensor | None, *_: None) -> Tensor:
        x, w = ctx.saved_tensors
        out = None if dx is None else conv(dx, w, None, ctx.geometry)
        out = add(out, None if dw is None else conv(x, dw, None, ctx.geometry))
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
            folded = conv(into_batch(front(x, x_dim, size)), w, None, geometry)
            out, at = folded.unflatten(0, (size, -1)), 0
        else:
            weights = into_batch(front(w, w_dim, size))
            folded = conv(
                into_channels(front(x, x_dim, size)), weights, None, grouped(geometry, size)
            )
            out, at = folded.unflatten(1, (size, -1)).movedim(1, 0), 0
        if b is not None:
            bias = front(b, b_dim, size)
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
        return (*dgrad_backward(_hybrid, ddx, dy, w, ctx.geometry, needs), None, None)

    @staticmethod
    def jvp(ctx: Any, dy_t: Tensor | None, w_t: Tensor | None, *_: None) -> Tensor:
        dy, w = ctx.saved_tensors
        out = None if dy_t is None else conv_dgrad(dy_t, w, ctx.size, ctx.geometry)
        out = add(out, None if w_t is None else conv_dgrad(dy, w_t, ctx.size, ctx.geometry))
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
        grads = front(dy, in_dims[0], count)
        if in_dims[1] is None:
            folded = conv_dgrad(into_batch(grads), w, (count * size[0], *size[1:]), geometry)
            return folded.unflatten(0, (count, -1)), 0
        weights = into_batch(front(w, in_dims[1], count))
        wide = (size[0], count * size[1], *size[2:])
        folded = conv_dgrad(into_channels(grads), weights, wide, grouped(geometry, count))
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
        return (*wgrad_backward(_hybrid, ddw, dy, x, ctx.geometry, needs), None, None, None)

    @staticmethod
    def jvp(ctx: Any, dy_t: Tensor | None, x_t: Tensor | None, *_: None) -> Tensor:
        dy, x = ctx.saved_tensors
        rest = (ctx.size, ctx.stride, ctx.geometry)
        out = None if dy_t is None else conv_wgrad(dy_t, x, *rest)
        out = add(out, None if x_t is None else conv_wgrad(dy, x_t, *rest))
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
        grads = into_channels(front(dy, in_dims[0], count))
        inputs = into_channels(front(x, in_dims[1], count))
        wide = (count * size[0], *size[1:])
        folded = conv_wgrad(
            grads, inputs, wide, dense_strides(wide, False), grouped(geometry, count)
        )
        return folded.unflatten(0, (count, -1)), 0


class ShortConv(Function):
    """Plain or transposed, with nothing but reverse mode watching: one op forward, one backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, known: Interned) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.known = known
        return _call_short_conv(x, w, b, known.number)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        needs = ctx.needs_input_grad
        number, geometry, output_padding = ctx.known
        if torch.is_grad_enabled() or way_of(dy, x, w) != SHORT:
            formula = conv_backward if output_padding is None else transpose_backward
            return (*formula(_hybrid, dy, x, w, geometry, needs), None)
        mask = needs[0] + 2 * needs[1] + 4 * needs[2]
        return (*_call_short_backward(dy, x, w, number, mask), None)


_apply_conv: Callable[..., Tensor] = _Conv.apply
_apply_dgrad: Callable[..., Tensor] = _Dgrad.apply
_apply_wgrad: Callable[..., Tensor] = _Wgrad.apply
apply_short: Callable[..., Tensor] = ShortConv.apply


def conv(x: Tensor, w: Tensor, b: Tensor | None, geometry: Geometry) -> Tensor:
    """The convolution of `x` [N, C, ...] with `w` [K, C/groups, ...], differentiable in every mode.

    Under autocast the operands are expected to be cast already. Raises RuntimeError in torch's
    words where the arguments do not fit each other.
    """
    way = way_of(x, w, b)
    if way in (OP, TORCH):
        if for_compiler(x):
            return triton_ops.conv(x, w, b, geometry)
        return _call_conv(x, w, b, *geometry)
    if way == SHORT and _native.serves(x) and (known := interned(geometry)) is not None:
        return apply_short(x, w, b, known)
    return _apply_conv(x, w, b, geometry)


def transposed_size(x: Size, w: Size, geometry: Geometry, output_padding: Size) -> tuple[int, ...]:
    """The sizes of a transposed convolution's result, from those of its input and weight."""
    stride, padding, dilation, groups = geometry
    return (
        x[0],
        w[1] * groups,
        *(
            (x[i + 2] - 1) * s - 2 * p + d * (w[i + 2] - 1) + more + 1
            for i, (s, p, d, more) in enumerate(
                zip(stride, padding, dilation, output_padding, strict=True)
            )
        ),
    )


def conv_transpose(
    x: Tensor, w: Tensor, b: Tensor | None, geometry: Geometry, output_padding: tuple[int, ...]
) -> Tensor:
    """The transposed convolution of `x` [N, K, ...] with `w` [K, C/groups, ...]: dgrad, with a bias
    by C. `output_padding` is expected below the stride.
    """
    way = way_of(x, w, b)
    if way == SHORT and _native.serves(x):
        known = interned(geometry, output_padding)
        if known is not None:
            return apply_short(x, w, b, known)
    size = transposed_size(x.shape, w.shape, geometry, output_padding)
    if way in (OP, TORCH) and not for_compiler(x):
        return _call_conv_dgrad(x, w, b, size, *geometry)
    out = conv_dgrad(x, w, size, geometry)
    return out if b is None else out + b.reshape(-1, *(1,) * (x.dim() - 2))


def conv_dgrad(dy: Tensor, w: Tensor, size: Size, geometry: Geometry) -> Tensor:
    """The gradient of `conv` by its input, of extents `size`, from `dy` [N, K, ...]."""
    if way_of(dy, w) in (OP, TORCH):
        if for_compiler(dy):
            return triton_ops.conv_dgrad(dy, w, size, geometry)
        return _call_conv_dgrad(dy, w, None, size, *geometry)
    return _apply_dgrad(dy, w, tuple(size), geometry)


def conv_wgrad(dy: Tensor, x: Tensor, size: Size, stride: Size, geometry: Geometry) -> Tensor:
    """The gradient of `conv` by its weight, of extents `size` and exactly the strides `stride`."""
    if way_of(dy, x) in (OP, TORCH):
        if for_compiler(dy):
            return triton_ops.conv_wgrad(dy, x, size, stride, geometry)
        return _call_conv_wgrad(dy, x, size, stride, *geometry)
    return _apply_wgrad(dy, x, tuple(size), tuple(stride), geometry)


_hybrid = Family(conv, conv_dgrad, conv_wgrad)
