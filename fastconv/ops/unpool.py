"""Unpooling: the ops' schemas, fakes, registered autograd, meaning in aten's terms, and the function
with forward mode and batching.

Letters: input and indices [N, C, ...] of two or three spatial axes, output [N, C, *output_size].

As in torch, each input's gradient is what its place was given; where places are distinct, as those of
windows that do not overlap are, that is the derivative. The gradient's own derivative adds up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table, meta_table
from torch.autograd import Function

from fastconv import _native
from fastconv.ops.fake import register_fake
from fastconv.ops.layout import dense_strides, strides_like_channels_last

__all__ = ["SCHEMAS", "apply"]

Sizes = Sequence[int]
SCHEMAS = {
    "max_unpool": (
        '(Tensor input, Tensor indices, SymInt[] output_size, str kernel_name="") -> Tensor'
    ),
    "max_unpool_backward": '(Tensor grad, Tensor indices, str kernel_name="") -> Tensor',
}
_ops: Any = torch.ops.fastconv


def _of_torch(x: Tensor, indices: Tensor, output_size: Sizes, kernel_name: str = "") -> Tensor:
    axes = x.dim() - 2
    rest = () if axes == 2 else ([1] * axes, [0] * axes)
    op: Any = getattr(torch.ops.aten, f"max_unpool{axes}d")
    return op(x, indices, output_size, *rest)  # type: ignore[no-any-return]


def _backward_of_torch(dy: Tensor, indices: Tensor, kernel_name: str = "") -> Tensor:
    return dy.flatten(2).gather(2, indices.flatten(2)).reshape(indices.shape).contiguous()


def _fake(x: Tensor, indices: Tensor, output_size: Sizes, kernel_name: str = "") -> Tensor:
    sizes = (*x.shape[:2], *output_size)
    # torch's result of three axes is never channels last.
    last = x.dim() == 4 and strides_like_channels_last(x.shape, x.stride())
    return x.new_empty_strided(sizes, dense_strides(sizes, last))


def _fake_backward(dy: Tensor, indices: Tensor, kernel_name: str = "") -> Tensor:
    return dy.new_empty(indices.shape)


def _added(ddx: Tensor, indices: Tensor, sizes: Sizes) -> Tensor:
    """What a gradient's derivative is: each place has the sum of what was read there."""
    flat = ddx.new_zeros((*sizes[:2], torch.Size(sizes[2:]).numel()))
    return flat.scatter_add(2, indices.flatten(2), ddx.flatten(2)).reshape(sizes)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])
    ctx.given = len(inputs)


def _derivative(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    dx = _ops.max_unpool_backward(dy, *ctx.saved_tensors)
    return (dx, *(None,) * (ctx.given - 1))


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _setup(ctx, inputs, output)
    ctx.sizes = inputs[0].shape


def _derivative_backward(ctx: Any, ddx: Tensor) -> tuple[Any, ...]:
    return (_added(ddx, ctx.saved_tensors[0], ctx.sizes), *(None,) * (ctx.given - 1))


_library = torch.library.Library("fastconv", "FRAGMENT")


def _register(
    name: str,
    torchs: Callable[..., Tensor],
    fake: Callable[..., Tensor],
    derivative: Callable[..., Any],
    setup: Callable[..., None],
) -> None:
    if _native.lib is None:
        _library.define(name + SCHEMAS[name])
        _library.impl(name, torchs, "CPU")
    _library.impl(name, torchs, "CUDA")  # there are no kernels of ours
    register_fake(name, fake)
    torch.library.register_autograd(f"fastconv::{name}", derivative, setup_context=setup)
    op = getattr(_ops, name).default
    decomposition_table[op] = torchs
    meta_table[op] = fake


_register("max_unpool", _of_torch, _fake, _derivative, _setup)
_register(
    "max_unpool_backward", _backward_of_torch, _fake_backward, _derivative_backward, _setup_backward
)


def _folded(t: Tensor, dim: int | None, size: int) -> Tensor:
    """A batch of images as one larger batch."""
    t = t.expand(size, *t.shape) if dim is None else t.movedim(dim, 0)
    return t.flatten(0, 1)


class _Unpool(Function):
    @staticmethod
    def forward(x: Tensor, indices: Tensor, output_size: tuple[int, ...]) -> Tensor:
        return _ops.max_unpool(x, indices, output_size)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, indices, ctx.output_size = inputs
        ctx.save_for_backward(indices)
        ctx.save_for_forward(indices)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        return _gradient(dy, *ctx.saved_tensors), None, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, *_: None) -> Tensor:
        return apply(dx, ctx.saved_tensors[0], ctx.output_size)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, indices: Tensor, output_size: Any
    ) -> tuple[Tensor, int]:
        folded = (
            _folded(t, dim, info.batch_size) for t, dim in zip((x, indices), in_dims, strict=False)
        )
        return _unpool(*folded, output_size).unflatten(0, (info.batch_size, -1)), 0


class _UnpoolBackward(Function):
    @staticmethod
    def forward(dy: Tensor, indices: Tensor) -> Tensor:
        return _ops.max_unpool_backward(dy, indices)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        dy, indices = inputs
        ctx.sizes = tuple(dy.shape)
        ctx.save_for_backward(indices)
        ctx.save_for_forward(indices)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor) -> tuple[Tensor | None, ...]:
        return _added(ddx, ctx.saved_tensors[0], ctx.sizes), None

    @staticmethod
    def jvp(ctx: Any, dy: Tensor, _: None) -> Tensor:
        return _gradient(dy, *ctx.saved_tensors)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], dy: Tensor, indices: Tensor
    ) -> tuple[Tensor, int]:
        folded = (
            _folded(t, dim, info.batch_size) for t, dim in zip((dy, indices), in_dims, strict=False)
        )
        return _gradient(*folded).unflatten(0, (info.batch_size, -1)), 0


_unpool: Callable[..., Tensor] = _Unpool.apply
_gradient: Callable[..., Tensor] = _UnpoolBackward.apply


def apply(x: Tensor, indices: Tensor, output_size: tuple[int, ...]) -> Tensor:
    """`x` at the places that `indices` name."""
    return _unpool(x, indices, output_size)
