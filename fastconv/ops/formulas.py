"""The derivatives of the conv family, each made of the other two, and how vmap folds a batch away.

Letters: input [N, C, ...], weight [K, C/groups, ...], output [N, K, ...], one to three axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

Size = Sequence[int]


class Geometry(NamedTuple):
    """How the filter moves; one number per spatial axis."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


def sum_pixels(grad: Tensor) -> Tensor:
    return grad.sum((0, *range(2, grad.dim())))


# Formulas. `calls` is the family they recurse into: the hybrid functions or the public ops.


class Family(NamedTuple):
    conv: Callable[..., Tensor]
    dgrad: Callable[..., Tensor]
    wgrad: Callable[..., Tensor]


def conv_backward(
    calls: Family, dy: Tensor, x: Tensor, w: Tensor, geometry: Geometry, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    return (
        calls.dgrad(dy, w, x.shape, geometry) if needs[0] else None,
        calls.wgrad(dy, x, w.shape, w.stride(), geometry) if needs[1] else None,
        sum_pixels(dy) if needs[2] else None,
    )


def dgrad_backward(
    calls: Family, ddx: Tensor, dy: Tensor, w: Tensor, geometry: Geometry, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    return (
        calls.conv(ddx, w, None, geometry) if needs[0] else None,
        calls.wgrad(dy, ddx, w.shape, w.stride(), geometry) if needs[1] else None,
    )


def transpose_backward(
    calls: Family, dx: Tensor, y: Tensor, w: Tensor, geometry: Geometry, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Of a transposed convolution of `y` with a bias, by dgrad's."""
    bias = sum_pixels(dx) if needs[2] else None
    return (*dgrad_backward(calls, dx, y, w, geometry, needs), bias)


def wgrad_backward(
    calls: Family, ddw: Tensor, dy: Tensor, x: Tensor, geometry: Geometry, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    return (
        calls.conv(x, ddw, None, geometry) if needs[0] else None,
        calls.dgrad(dy, ddw, x.shape, geometry) if needs[1] else None,
    )


def add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


# vmap: a batch of inputs joins N; a batch of weights becomes groups.


def front(t: Tensor, dim: int | None, size: int) -> Tensor:
    return t.expand(size, *t.shape) if dim is None else t.movedim(dim, 0)


def into_batch(t: Tensor) -> Tensor:
    return t.flatten(0, 1)


def into_channels(t: Tensor) -> Tensor:
    return t.movedim(0, 1).flatten(1, 2)


def grouped(geometry: Geometry, size: int) -> Geometry:
    return geometry._replace(groups=geometry.groups * size)
