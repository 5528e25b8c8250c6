"""Pools that torch does not have: the ops' schemas, fakes, registered autograd and meaning in torch's
terms.

A stochastic pool's sample is one of its window's inputs, so that its gradient is a maximum's. What a
sub-sampling is of input, weight and bias is linear in each, so that its gradients are pools and sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._decomp import decomposition_table, meta_table
from torch.autograd import Function

from fastconv import _native
from fastconv.ops.fake import register_fake
from fastconv.ops.layout import dense_strides, strides_like_channels_last
from fastconv.ops.pool import picked
from fastconv.ops.pool_function import Input, Pooling, gradient_by_index

__all__ = ["SCHEMAS", "outputs", "sample", "sums_type"]

Ints = Sequence[int]
SCHEMAS = {
    "stochastic_pool": (
        "(Tensor input, Tensor uniform, SymInt[] kernel_size, SymInt[] stride, SymInt[] padding, "
        'str index="i64", str kernel_name="") -> (Tensor, Tensor)'
    ),
    "sub_sample": (
        "(Tensor input, Tensor weight, Tensor bias, SymInt[] kernel_size, SymInt[] stride, "
        'str kernel_name="") -> Tensor'
    ),
}
_ops: Any = torch.ops.fastconv


def outputs(sizes: Ints, window: Ints, stride: Ints, padding: Ints) -> tuple[int, ...]:
    """The sizes of a pool's result, of those of its input [N, C, H, W]."""
    spatial = zip(sizes[2:], window, stride, padding, strict=True)
    return (*sizes[:2], *((n + 2 * pad - taps) // step + 1 for n, taps, step, pad in spatial))


def sums_type(dtype: torch.dtype) -> torch.dtype:
    """Of the sums of elements of a type."""
    return dtype if dtype == torch.float64 else torch.float32


def _like(x: Tensor, sizes: Ints, dtype: torch.dtype | None = None) -> Tensor:
    last = x.dim() == 4 and strides_like_channels_last(x.shape, x.stride())
    return x.new_empty_strided(sizes, dense_strides(sizes, last), dtype=dtype or x.dtype)


def _stochastic_of_torch(
    x: Tensor, uniform: Tensor, window: Ints, stride: Ints, padding: Ints, index: str = "i64",
    kernel_name: str = "",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The window's inputs side by side, in their order; two axes."""
    if index == "u8":
        raise RuntimeError("fastconv: indices of one byte are the native kernels' alone")
    height, width = x.shape[2:]
    places = torch.arange(height * width, device=x.device, dtype=x.dtype).reshape(
        1, 1, height, width
    )

    def unfolded(t: Tensor) -> Tensor:
        flat = F.unfold(
            t.flatten(0, 1).unsqueeze(1),
            tuple(window),
            padding=tuple(padding),
            stride=tuple(stride),
        )
        return flat.reshape(*t.shape[:2], -1, *uniform.shape[2:])

    inputs = unfolded(x)
    where = unfolded(places + 1).long() - 1  # of the padding -1
    weight = torch.where((inputs > 0) | inputs.isnan(), inputs, 0)
    sums = weight.cumsum(2)
    total = sums[:, :, -1:]
    enough = (sums > uniform.unsqueeze(2) * total) & (weight > 0)
    last = weight.shape[2] - 1 - (weight > 0).flip(2).int().argmax(2, keepdim=True)
    first = (where.expand_as(inputs) >= 0).int().argmax(2, keepdim=True)
    drawn = torch.where(enough.any(2, keepdim=True), enough.int().argmax(2, keepdim=True), last)
    drawn = torch.where((total > 0) & total.isfinite(), drawn, first)
    value = torch.where(total > 0, inputs.gather(2, drawn), total - total).squeeze(2)
    value = torch.where(total.squeeze(2).isfinite(), value, float("nan"))
    index_of = where.expand_as(inputs).gather(2, drawn).squeeze(2)
    out, at = _like(x, value.shape), _like(x, value.shape, torch.int64)
    return out.copy_(value), at.copy_(index_of)


def _stochastic_fake(
    x: Tensor, uniform: Tensor, window: Ints, stride: Ints, padding: Ints, index: str = "i64",
    kernel_name: str = "",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    dtype = torch.uint8 if index == "u8" else torch.int64
    return _like(x, uniform.shape), _like(x, uniform.shape, dtype)


def _pooling(x: Tensor, window: Ints, stride: Ints, padding: Ints, index: str) -> Pooling:
    """The maximum that has the sample's gradient."""
    ones = [1] * (x.dim() - 2)
    return Pooling("max_pool", (list(window), list(stride), list(padding), ones, False), index)


def _stochastic_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, _, *windows = inputs
    index = "u8" if output[1].dtype == torch.uint8 else "i64"
    ctx.pooling = _pooling(x, windows[0], windows[1], windows[2], index)
    ctx.sizes, ctx.given = x.shape, len(inputs)
    ctx.last = strides_like_channels_last(x.shape, x.stride())
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1])


def _stochastic_derivative(ctx: Any, dy: Tensor, _: Any) -> tuple[Any, ...]:
    kind, arguments = ctx.pooling.kind, ctx.pooling.arguments
    dx = kind.backward(dy, ctx.saved_tensors[0], ctx.sizes, ctx.last, arguments)
    return (dx, *(None,) * (ctx.given - 1))


def _channels(t: Tensor, like: Tensor) -> Tensor:
    """One number a channel, beside [N, C, ...]."""
    return t.reshape(-1, *(1,) * (like.dim() - 2))


def _sums(x: Tensor, window: Ints, stride: Ints) -> Tensor:
    none = [0] * len(window)
    return _ops.avg_pool(x, window, stride, none, False, True, 1)  # type: ignore[no-any-return]


def _sub_sample_of_torch(
    x: Tensor, weight: Tensor, bias: Tensor, window: Ints, stride: Ints, kernel_name: str = ""
) -> Tensor:
    sums = _sums(x, window, stride)
    return (sums * _channels(weight, x) + _channels(bias, x)).to(x.dtype)


def _sub_sample_fake(
    x: Tensor, weight: Tensor, bias: Tensor, window: Ints, stride: Ints, kernel_name: str = ""
) -> Tensor:
    return _like(x, outputs(x.shape, window, stride, [0] * len(window)))


def _sub_sample_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, ctx.window, ctx.stride = inputs[:5]
    ctx.given = len(inputs)
    ctx.last = strides_like_channels_last(x.shape, x.stride())
    ctx.save_for_backward(x, weight)


def _sub_sample_derivative(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    x, weight = ctx.saved_tensors
    pixels = (0, *range(2, dy.dim()))
    dx = dw = db = None
    if ctx.needs_input_grad[0]:
        share, none = (dy * _channels(weight, dy)).to(dy.dtype), [0] * len(ctx.window)
        dx = _ops.avg_pool_backward(
            share, x.shape, ctx.last, ctx.window, ctx.stride, none, False, True, 1
        )
    if ctx.needs_input_grad[1]:
        sums = _sums(x, ctx.window, ctx.stride).to(weight.dtype)
        dw = (dy.to(weight.dtype) * sums).sum(pixels)
    if ctx.needs_input_grad[2]:
        db = dy.sum(pixels, dtype=weight.dtype)
    return (dx, dw, db, *(None,) * (ctx.given - 3))


_library = torch.library.Library("fastconv", "FRAGMENT")


def _register(
    name: str,
    torchs: Callable[..., Any],
    fake: Callable[..., Any],
    derivative: Callable[..., Any],
    setup: Callable[..., None],
) -> None:
    if _native.lib is None:
        _library.define(name + SCHEMAS[name])
        _library.impl(name, torchs, "CPU")
    if not _native.has_cuda:
        _library.impl(name, torchs, "CUDA")
    register_fake(name, fake)
    torch.library.register_autograd(f"fastconv::{name}", derivative, setup_context=setup)
    op = getattr(_ops, name).default
    decomposition_table[op] = torchs
    meta_table[op] = fake


_register(
    "stochastic_pool", _stochastic_of_torch, _stochastic_fake, _stochastic_derivative,
    _stochastic_setup,
)  # fmt: skip
_register(
    "sub_sample", _sub_sample_of_torch, _sub_sample_fake, _sub_sample_derivative, _sub_sample_setup
)


class _Sample(Function):
    @staticmethod
    def forward(x: Tensor, uniform: Tensor, pooling: Pooling) -> tuple[Tensor, Tensor]:
        window, stride, padding = pooling.arguments[:3]
        return _ops.stochastic_pool(  # type: ignore[no-any-return]
            x, uniform, window, stride, padding, pooling.indices
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, _, ctx.pooling = inputs
        last = x.dim() == 4 and strides_like_channels_last(x.shape, x.stride())
        ctx.input = Input(tuple(x.shape), last)
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])
        ctx.save_for_forward(output[1])

    @staticmethod
    def backward(ctx: Any, dy: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        return gradient_by_index(dy, ctx.saved_tensors[0], ctx.pooling, ctx.input), None, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, *_: None) -> tuple[Tensor, None]:
        return picked(dx, ctx.saved_tensors[0], ctx.pooling.arguments), None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, uniform: Tensor, pooling: Pooling
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        batch = info.batch_size
        x, uniform = (
            (t.expand(batch, *t.shape) if dim is None else t.movedim(dim, 0)).flatten(0, 1)
            for t, dim in zip((x, uniform), in_dims, strict=False)
        )
        y, index = _sample(x, uniform, pooling)
        return (y.unflatten(0, (batch, -1)), index.unflatten(0, (batch, -1))), (0, 0)


_sample: Callable[..., tuple[Tensor, Tensor]] = _Sample.apply


def sample(
    x: Tensor, uniform: Tensor, window: Ints, stride: Ints, padding: Ints, index: str
) -> Tensor:
    """One input of each window, by a number an output of `uniform`."""
    return _sample(x, uniform, _pooling(x, window, stride, padding, index))[0]
