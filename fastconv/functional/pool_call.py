"""How a call of a pool finds its way: to an op of ours, or to torch's own function."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastconv import _native, _triton
from fastconv.ops.pool import KINDS, channels_last_of
from fastconv.ops.pool_function import Pooling, apply, apply_indexed
from fastconv.ops.watch import FUNCTION, OP, SHORT, way_of
from fastconv.tensors import is_int

__all__ = ["adaptive", "maximum", "mean", "power_mean"]

F: Any = torch.nn.functional

Ints = int | Sequence[int]
#: What rows on vectors take: of others torch's kernels compute, whose indices are of eight bytes.
_VECTORS = (torch.float32, torch.bfloat16, torch.float16)
_is_dynamo_compiling = torch.compiler.is_dynamo_compiling


def _listed(value: Any, axes: int) -> list[Any]:
    """A number for each of the axes, of one for all or one each.

    Raises:
        TypeError: for what torch takes for neither.
    """
    given = list(value) if isinstance(value, (tuple, list)) else [value]
    if len(given) not in (1, axes) or not all(map(is_int, given)):
        raise TypeError(f"not numbers of a window: {value!r}")
    return given * (axes // len(given))


def _index_of(x: Tensor, window: list[Any], _: Any, __: Any, dilation: list[Any], *___: Any) -> str:
    """A byte where a place in the window fits in it and every window has an input, as those of no
    dilation do; torch's indices on a GPU and of contiguous images, for its kernel runs where no row
    is known to win.
    """
    fits = math.prod(window) <= 255 and all(step == 1 for step in dilation)
    ours = x.dtype in _VECTORS and x.is_cpu and _native.lib is not None
    return "u8" if fits and ours and channels_last_of(KINDS["max_pool"], x) else "i64"


def _run(
    input: Tensor,
    axes: int,
    name: str,
    listed: Callable[[], tuple[Any, ...]],
    indexed: bool,
    of_torch: Callable[[], Any],
) -> Any:
    """A pool of `input` [N, C, ...] by the op of that name on the arguments that `listed` gives, which
    have two numbers more than one axis has: a mean, or a maximum and, where they are asked for,
    its indices.
    """
    way = way_of(input, input)
    if (
        way not in (OP, FUNCTION, SHORT)
        or input.dim() != axes + 2
        or input.layout != torch.strided
        or not (_native.serves(input) or way == OP or input.device.type in _triton.device_types())
    ):
        return of_torch()
    try:
        arguments = listed()
        x = input.unsqueeze(2) if axes == 1 else input
        recorded = torch.is_grad_enabled() and input.requires_grad
        unrecorded = way == OP or (way == SHORT and not recorded)
        index = ""
        if name == "max_pool":
            needed = recorded or way != SHORT
            index = "i64" if indexed else _index_of(x, *arguments) if needed else "none"
        pooling = Pooling(name, arguments, index)
        if not pooling.kind.indexed:
            y = pooling.forward(x, short=way == SHORT) if unrecorded else apply(x, pooling)
            return y.squeeze(2) if axes == 1 else y
        y, places = (
            pooling.forward(x, short=way == SHORT) if unrecorded else apply_indexed(x, pooling)
        )
        if axes == 1:
            y, places = y.squeeze(2), places.squeeze(2) if indexed else places
        return (y, places) if indexed else y
    except (RuntimeError, TypeError) as error:
        if torch.compiler.is_compiling() or str(error).startswith("fastconv: "):
            raise
    # torch's own call raises torch's own error, or knows what we do not.
    return of_torch()


def _flags(*given: Any) -> None:
    """
    Raises:
        TypeError: for what is no bool, which torch takes for none.
    """
    if not all(isinstance(each, bool) for each in given):
        raise TypeError(f"not flags: {given!r}")


def _windows(axes: int, stride: Any, *lists: Any) -> list[list[Any]]:
    """Window, stride, padding and so on of two axes or three; the axis before a single one is a
    window of one element. Nobody may change the lists.
    """
    # True is no number to torch, and equals one: what is no plain one is listed anew; and so is what
    # dynamo sees, which warns of caches.
    if (
        not _is_dynamo_compiling()
        and all(type(each) is int for each in lists)
        and (stride is None or type(stride) is int)
    ):
        return _windows_of_ints(axes, stride, lists)
    return _new_windows(axes, stride, lists)


def _new_windows(axes: int, stride: Any, lists: tuple[Any, ...]) -> list[list[Any]]:
    window, *rest = lists
    found = [_listed(window, axes), _listed(window if stride is None else stride, axes)]
    found += [_listed(each, axes) for each in rest]
    if axes == 1:
        found = [[rest, *own] for rest, own in zip((1, 1, 0, 1), found, strict=False)]
    return found


_windows_of_ints = functools.lru_cache(maxsize=1024)(_new_windows)


def mean(
    axes: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, *more: Any
) -> Tensor:
    of_torch = getattr(F, f"avg_pool{axes}d")

    def listed() -> tuple[Any, ...]:
        _flags(*more[:2])
        means = more if axes > 1 else (*more, None)
        return (*_windows(axes, stride, kernel_size, padding), *means)

    y: Tensor = _run(
        input, axes, "avg_pool", listed, False,
        lambda: of_torch(input, kernel_size, stride, padding, *more),
    )  # fmt: skip
    return y


def maximum(
    axes: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
    ceil_mode: bool, return_indices: bool,
) -> Any:  # fmt: skip
    of_torch = getattr(F, f"max_pool{axes}d")

    def listed() -> tuple[Any, ...]:
        _flags(ceil_mode)
        return (*_windows(axes, stride, kernel_size, padding, dilation), ceil_mode)

    return _run(
        input, axes, "max_pool", listed, bool(return_indices),
        lambda: of_torch(
            input, kernel_size, stride, padding, dilation, ceil_mode, return_indices=return_indices
        ),
    )  # fmt: skip


def adaptive(axes: int, name: str, input: Tensor, output_size: Any, *indexed: bool) -> Any:
    of_torch = getattr(F, f"{name}{axes}d")

    def listed() -> tuple[Any, ...]:
        given = (
            list(output_size) if isinstance(output_size, (tuple, list)) else [output_size] * axes
        )
        if len(given) != axes:
            raise TypeError(f"not an output's size: {output_size!r}")
        extents = input.shape[2:]
        sizes = [n if own is None else own for own, n in zip(given, extents, strict=True)]
        sizes = _listed(sizes, axes)
        if min(sizes) < 0:  # which torch's kernel below its checks would take
            raise TypeError(f"not an output's size: {output_size!r}")
        return ([1] * (axes == 1) + sizes,)

    return _run(
        input, axes, name, listed, any(indexed), lambda: of_torch(input, output_size, *indexed)
    )


def power_mean(
    axes: int, input: Tensor, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool
) -> Tensor:
    """As torch composes it, of a mean."""
    of_window = mean(axes, input.pow(norm_type), kernel_size, stride, 0, ceil_mode, True)
    window = math.prod(_listed(kernel_size, axes))
    return (
        (torch.sign(of_window) * torch.relu(torch.abs(of_window))).mul(window).pow(1.0 / norm_type)
    )
