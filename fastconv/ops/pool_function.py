"""Pooling for PyTorch's autograd in eager mode: functions with forward mode and batching."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from fastconv.ops.pool import KINDS, Kind, channels_last_of, picked

__all__ = ["Input", "Pooling", "apply", "apply_indexed", "gradient_by_index"]


_functorch_active = torch._C._are_functorch_transforms_active


class Pooling(NamedTuple):
    """What a call is beside its tensors: the op's name, its arguments, and the type of indices."""

    name: str
    arguments: tuple[Any, ...]
    indices: str = ""

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]

    def forward(self, x: Tensor, short: bool = False) -> Any:
        """The op; `short` where nothing but the kernel is to see the call."""
        words = (self.indices,) if self.kind.word else ()
        return self.kind.forward(x, self.arguments, *words, short=short)


class Input(NamedTuple):
    """What of an input a gradient needs."""

    sizes: tuple[int, ...]
    last: bool


def _folded(t: Tensor, dim: int | None, size: int) -> Tensor:
    """A batch of images as one larger batch."""
    t = t.expand(size, *t.shape) if dim is None else t.movedim(dim, 0)
    return t.flatten(0, 1)


class _Mean(Function):
    @staticmethod
    def forward(x: Tensor, pooling: Pooling) -> Tensor:
        return pooling.forward(x, short=not _functorch_active())  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.pooling = inputs
        ctx.input = Input(tuple(x.shape), channels_last_of(ctx.pooling.kind, x))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        return _mean_gradient(dy, ctx.pooling, ctx.input), None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, *_: None) -> Tensor:
        return apply(dx, ctx.pooling)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, pooling: Pooling
    ) -> tuple[Tensor, int]:
        folded = apply(_folded(x, in_dims[0], info.batch_size), pooling)
        return folded.unflatten(0, (info.batch_size, -1)), 0


class _MeanBackward(Function):
    @staticmethod
    def forward(dy: Tensor, pooling: Pooling, of: Input) -> Tensor:
        return pooling.kind.backward(
            dy, None, of.sizes, of.last, pooling.arguments, short=not _functorch_active()
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.pooling, ctx.input = inputs

    @staticmethod
    def backward(ctx: Any, ddx: Tensor) -> tuple[Tensor | None, ...]:
        return apply(ddx, ctx.pooling), None, None

    @staticmethod
    def jvp(ctx: Any, dy: Tensor, *_: None) -> Tensor:
        return _mean_gradient(dy, ctx.pooling, ctx.input)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], dy: Tensor, pooling: Pooling, of: Input
    ) -> tuple[Tensor, int]:
        batch = info.batch_size
        of = of._replace(sizes=(batch * of.sizes[0], *of.sizes[1:]))
        dx = _mean_gradient(_folded(dy, in_dims[0], batch), pooling, of)
        return dx.unflatten(0, (batch, -1)), 0


class _Maximum(Function):
    @staticmethod
    def forward(x: Tensor, pooling: Pooling) -> tuple[Tensor, Tensor]:
        return pooling.forward(x, short=not _functorch_active())  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.pooling = inputs
        ctx.input = Input(tuple(x.shape), channels_last_of(ctx.pooling.kind, x))
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])
        ctx.save_for_forward(output[1])

    @staticmethod
    def backward(ctx: Any, dy: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        return _maximum_gradient(dy, *ctx.saved_tensors, ctx.pooling, ctx.input), None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, *_: None) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return picked(dx, index, ctx.pooling.arguments), None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, pooling: Pooling
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        y, index = apply_indexed(_folded(x, in_dims[0], info.batch_size), pooling)
        shape = (info.batch_size, -1)
        return (y.unflatten(0, shape), index.unflatten(0, shape)), (0, 0)


class _MaximumBackward(Function):
    @staticmethod
    def forward(dy: Tensor, index: Tensor, pooling: Pooling, of: Input) -> Tensor:
        return pooling.kind.backward(
            dy, index, of.sizes, of.last, pooling.arguments, short=not _functorch_active()
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, index, ctx.pooling, ctx.input = inputs
        ctx.save_for_backward(index)
        ctx.save_for_forward(index)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor) -> tuple[Tensor | None, ...]:
        return picked(ddx, ctx.saved_tensors[0], ctx.pooling.arguments), None, None, None

    @staticmethod
    def jvp(ctx: Any, dy: Tensor, *_: None) -> Tensor:
        return _maximum_gradient(dy, *ctx.saved_tensors, ctx.pooling, ctx.input)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], dy: Tensor, index: Tensor, pooling: Pooling,
        of: Input,
    ) -> tuple[Tensor, int]:  # fmt: skip
        batch = info.batch_size
        of = of._replace(sizes=(batch * of.sizes[0], *of.sizes[1:]))
        folded = (_folded(t, dim, batch) for t, dim in ((dy, in_dims[0]), (index, in_dims[1])))
        dx = _maximum_gradient(*folded, pooling, of)
        return dx.unflatten(0, (batch, -1)), 0


_mean: Callable[..., Tensor] = _Mean.apply
_mean_gradient: Callable[..., Tensor] = _MeanBackward.apply
_maximum: Callable[..., tuple[Tensor, Tensor]] = _Maximum.apply
_maximum_gradient: Callable[..., Tensor] = _MaximumBackward.apply


def apply(x: Tensor, pooling: Pooling) -> Tensor:
    """A mean."""
    return _mean(x, pooling)


def apply_indexed(x: Tensor, pooling: Pooling) -> tuple[Tensor, Tensor]:
    """A maximum, and its indices."""
    return _maximum(x, pooling)


def gradient_by_index(dy: Tensor, index: Tensor, pooling: Pooling, of: Input) -> Tensor:
    """Of an input of those sizes: each output's goes to the place that its index names."""
    return _maximum_gradient(dy, index, pooling, of)
