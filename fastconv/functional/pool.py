"""Pools with the signatures of `torch.nn.functional`.

Kernels exist for float32, bfloat16 and float16 on the CPU; what else torch takes, torch computes. A
call whose gradient is asked for keeps an index of one byte a maximum, where torch keeps eight and
the input.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastconv import _native, _triton
from fastconv.ops.pool_function import Pooling, apply, apply_indexed
from fastconv.ops.watch import FUNCTION, OP, SHORT, way_of
from fastconv.tensors import is_int

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
]

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
    dilation do; on a GPU torch's indices, for its kernel runs where no row is known to win.
    """
    fits = math.prod(window) <= 255 and all(step == 1 for step in dilation)
    return "u8" if fits and x.dtype in _VECTORS and x.is_cpu and _native.lib is not None else "i64"


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


def _mean(
    axes: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, *more: Any
) -> Tensor:
    of_torch = getattr(F, f"avg_pool{axes}d")

    def listed() -> tuple[Any, ...]:
        means = more if axes > 1 else (*more, None)
        _flags(*more[:2])
        return (*_windows(axes, stride, kernel_size, padding), *means)

    y: Tensor = _run(
        input, axes, "avg_pool", listed, False,
        lambda: of_torch(input, kernel_size, stride, padding, *more),
    )  # fmt: skip
    return y


def _maximum(
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


def _adaptive(axes: int, name: str, input: Tensor, output_size: Any, *indexed: bool) -> Any:
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


def _power_mean(
    axes: int, input: Tensor, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool
) -> Tensor:
    """As torch composes it, of a mean."""
    mean = _mean(axes, input.pow(norm_type), kernel_size, stride, 0, ceil_mode, True)
    window = math.prod(_listed(kernel_size, axes))
    return (torch.sign(mean) * torch.relu(torch.abs(mean))).mul(window).pow(1.0 / norm_type)


def avg_pool1d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """As `torch.nn.functional.avg_pool1d`: input [N, C, W] or [C, W], window
    `kernel_size`. Raises what torch raises for arguments that do not fit.
    """
    return _mean(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """As `torch.nn.functional.avg_pool2d`: input [N, C, H, W] or [C, H, W], window
    `kernel_size`. Raises what torch raises for arguments that do not fit.
    """
    return _mean(
        2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """As `torch.nn.functional.avg_pool3d`: input [N, C, D, H, W] or [C, D, H, W], window
    `kernel_size`. Raises what torch raises for arguments that do not fit.
    """
    return _mean(
        3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def max_pool1d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """As `torch.nn.functional.max_pool1d`: input [N, C, W] or [C, W], window `kernel_size`. With
    `return_indices` also the places of the maxima in the image, int64. Raises what torch raises for
    arguments that do not fit.
    """
    return _maximum(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """As `torch.nn.functional.max_pool2d`: input [N, C, H, W] or [C, H, W], window `kernel_size`. With
    `return_indices` also the places of the maxima in the image, int64. Raises what torch raises for
    arguments that do not fit.
    """
    return _maximum(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """As `torch.nn.functional.max_pool3d`: input [N, C, D, H, W] or [C, D, H, W], window `kernel_size`. With
    `return_indices` also the places of the maxima in the image, int64. Raises what torch raises for
    arguments that do not fit.
    """
    return _maximum(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """As `torch.nn.functional.adaptive_avg_pool1d`: input [N, C, W] or [C, W] to `output_size`, None for an
    axis that stays.
    """
    y: Tensor = _adaptive(1, "adaptive_avg_pool", input, output_size)
    return y


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """As `torch.nn.functional.adaptive_avg_pool2d`: input [N, C, H, W] or [C, H, W] to `output_size`, None for an
    axis that stays.
    """
    y: Tensor = _adaptive(2, "adaptive_avg_pool", input, output_size)
    return y


def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """As `torch.nn.functional.adaptive_avg_pool3d`: input [N, C, D, H, W] or [C, D, H, W] to `output_size`, None for an
    axis that stays.
    """
    y: Tensor = _adaptive(3, "adaptive_avg_pool", input, output_size)
    return y


def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """As `torch.nn.functional.adaptive_max_pool1d`: input [N, C, W] or [C, W] to `output_size`, None for an
    axis that stays; with `return_indices` also the places of the maxima.
    """
    return _adaptive(1, "adaptive_max_pool", input, output_size, return_indices)


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """As `torch.nn.functional.adaptive_max_pool2d`: input [N, C, H, W] or [C, H, W] to `output_size`, None for an
    axis that stays; with `return_indices` also the places of the maxima.
    """
    return _adaptive(2, "adaptive_max_pool", input, output_size, return_indices)


def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """As `torch.nn.functional.adaptive_max_pool3d`: input [N, C, D, H, W] or [C, D, H, W] to `output_size`, None for an
    axis that stays; with `return_indices` also the places of the maxima.
    """
    return _adaptive(3, "adaptive_max_pool", input, output_size, return_indices)


def lp_pool1d(
    input: Tensor,
    norm_type: float,
    kernel_size: Ints,
    stride: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """As `torch.nn.functional.lp_pool1d`: the `norm_type`-norm of each window."""
    try:
        return _power_mean(1, input, norm_type, kernel_size, stride, ceil_mode)
    except (RuntimeError, TypeError, AttributeError):  # torch's own call raises torch's own error
        y: Tensor = F.lp_pool1d(input, norm_type, kernel_size, stride, ceil_mode)
        return y


def lp_pool2d(
    input: Tensor,
    norm_type: float,
    kernel_size: Ints,
    stride: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """As `torch.nn.functional.lp_pool2d`: the `norm_type`-norm of each window."""
    try:
        return _power_mean(2, input, norm_type, kernel_size, stride, ceil_mode)
    except (RuntimeError, TypeError, AttributeError):  # torch's own call raises torch's own error
        y: Tensor = F.lp_pool2d(input, norm_type, kernel_size, stride, ceil_mode)
        return y


def lp_pool3d(
    input: Tensor,
    norm_type: float,
    kernel_size: Ints,
    stride: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """As `torch.nn.functional.lp_pool3d`: the `norm_type`-norm of each window."""
    try:
        return _power_mean(3, input, norm_type, kernel_size, stride, ceil_mode)
    except (RuntimeError, TypeError, AttributeError):  # torch's own call raises torch's own error
        y: Tensor = F.lp_pool3d(input, norm_type, kernel_size, stride, ceil_mode)
        return y
