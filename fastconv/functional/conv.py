"""Convolutions with the signatures of `torch.nn.functional`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastconv import _native, _triton
from fastconv.ops import (
    decompositions as decompositions,
)  # and all else that ops are registered for
from fastconv.ops.autocast import cast, cast_weight
from fastconv.ops.conv import Geometry, Interned, apply_short, conv, conv_transpose, interned
from fastconv.ops.watch import SHORT, TORCH, way_of
from fastconv.policy import tell_tf32
from fastconv.tensors import DTYPES, INT64_MAX, is_int

__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "convolution",
]

Ints = int | Sequence[int]

#: torch's functions by the number of spatial axes, of transposed convolutions by its negative.
_TORCH: dict[int, Callable[..., Tensor]] = {
    1: F.conv1d,
    2: F.conv2d,
    3: F.conv3d,
    -1: F.conv_transpose1d,
    -2: F.conv_transpose2d,
    -3: F.conv_transpose3d,
}
_DEFAULTS = {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}
_DTYPES = frozenset(DTYPES)

# Geometries by the arguments that they were given as. The key is the kind of the call and the
# identities of the arguments as the caller holds them (1 == True == 1.0, and torch takes the first
# alone); the entry keeps the arguments, so that no other object gets their identities.
_known: dict[tuple[int, ...], tuple[Interned, tuple[Any, ...]]] = {}
_MOST_KNOWN = 4096

_is_compiling = torch.compiler.is_compiling
_any_autocast = torch._C._is_any_autocast_enabled
_is_grad_enabled = torch.is_grad_enabled
if _native.lib is not None:
    _short_conv: Any = torch.ops.fastconv._conv.default._op
    _packed_conv: Any = torch.ops.fastconv._conv_packed.default._op


def _of_torch(
    kind: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints | str,
    dilation: Ints,
    groups: int,
    output_padding: Ints,
) -> Tensor:
    """torch's own function. Arguments at their defaults are left out: torch's errors list what it
    was given.
    """
    given: dict[str, Any] = {"stride": stride, "padding": padding}
    if kind > 0:
        given |= {"dilation": dilation, "groups": groups}
    else:
        given |= {"output_padding": output_padding, "groups": groups, "dilation": dilation}
    kept = {k: v for k, v in given.items() if not (type(v) is int and v == _DEFAULTS[k])}
    if bias is not None:
        kept = {"bias": bias, **kept}
    return _TORCH[kind](input, weight, **kept)


def convolution(
    kind: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints | str,
    dilation: Ints,
    groups: int,
    output_padding: Ints = 0,
    cache: Any = None,
) -> Tensor:
    """A convolution of `kind` spatial axes, a transposed one of `-kind`.

    Without gradients and with a layer's `cache` (`nn.conv.PackCache`), on the weight as it lies
    packed there.
    """
    way = way_of(input, weight, bias)
    if way == SHORT:
        known = _known.get(
            (kind, id(stride), id(padding), id(dilation), id(groups), id(output_padding))
        )
        if known is None:
            known = _learn(kind, (stride, padding, dilation, groups, output_padding))
        on_cpu = input.is_cpu
        if known is not None and (on_cpu or (_native.has_cuda and input.is_cuda)):
            if not on_cpu:
                tell_tf32()
            try:
                if _is_grad_enabled() and (
                    weight.requires_grad
                    or input.requires_grad
                    or (bias is not None and bias.requires_grad)
                ):
                    if input.dim() == abs(kind) + 2 and not _any_autocast():
                        return apply_short(input, weight, bias, known[0])
                elif cache is not None and on_cpu:
                    out: Tensor | None
                    if cache.frozen:
                        version = cache.version_of(weight)
                        out = _packed_conv(input, weight, bias, known[0].number, cache.id, version)
                    else:  # a default is cheaper than a number
                        out = _packed_conv(input, weight, bias, known[0].number, cache.id)
                    if out is not None:  # it is under autocast, and for an image without a batch
                        return out
                elif input.dim() == abs(kind) + 2 and not _any_autocast():
                    out = _short_conv(input, weight, bias, known[0].number)
                    return out
            except (RuntimeError, TypeError) as error:
                if str(error).startswith("fastconv: "):
                    raise
                # torch's own call raises torch's own error, or knows what we do not.
                return _of_torch(
                    kind, input, weight, bias, stride, padding, dilation, groups, output_padding
                )
    return _general(
        way, kind, input, weight, bias, stride, padding, dilation, groups, output_padding
    )


def _is_number(value: Any, least: int) -> bool:
    """Whether torch takes the value for an integer of 64 bits, and it is at least `least`."""
    return is_int(value) and value >= least and (type(value) is not int or value <= INT64_MAX)


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, np.integer) else value


def _tuple(value: Any, axes: int, least: int) -> tuple[int, ...] | None:
    """One number per axis, or None for what is torch's to take or to refuse."""
    if is_int(value):
        value = (value,) * axes
    elif not isinstance(value, (tuple, list)):
        return None
    if len(value) == 1:
        value = tuple(value) * axes
    if len(value) != axes or not all(_is_number(v, least) for v in value):
        return None
    return tuple(map(_plain, value))


def _is_constant(value: object) -> bool:
    return type(value) is int or (type(value) is tuple and all(type(v) is int for v in value))


def _learn(kind: int, arguments: tuple[Any, ...]) -> tuple[Interned, tuple[Any, ...]] | None:
    """The entry of these arguments, made now; None for what the short op does not take: padding in
    words, lists, which may change, what torch refuses.
    """
    if not all(map(_is_constant, arguments)):
        return None
    axes = abs(kind)
    stride, padding, dilation, groups, output_padding = arguments
    steps, pads, gaps = _tuple(stride, axes, 1), _tuple(padding, axes, 0), _tuple(dilation, axes, 1)
    more = _tuple(output_padding, axes, 0)
    if steps is None or pads is None or gaps is None or more is None:
        return None
    if type(groups) is not int or not _is_number(groups, 1):
        return None
    if kind < 0 and not _are_below(more, steps):
        return None
    known = interned(Geometry(steps, pads, gaps, groups), None if kind > 0 else more)
    if known is None:
        return None
    if len(_known) >= _MOST_KNOWN:  # of a caller who makes its arguments anew each time
        _known.clear()
    entry = _known[(kind, *map(id, arguments))] = known, arguments
    return entry


def _are_below(output_padding: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether each row that is added is one that the convolution of the result reaches. Torch takes
    more where there is a dilation.
    """
    return all(more < step for more, step in zip(output_padding, stride, strict=True))


def _same_padding(weight: Tensor, dilation: Sequence[int]) -> tuple[list[int], list[int]]:
    """Padding of padding='same': what both ends have, and what the far end has more, by axis."""
    total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    return [t // 2 for t in total], [t % 2 for t in total]


def _is_ours(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    return (
        (_native.serves(input) or input.device.type in _triton.device_types())
        and weight.device == input.device
        and input.layout == torch.strided
        and weight.layout == torch.strided
        and (bias is None or bias.layout == torch.strided)
        and input.dtype in _DTYPES
        and weight.dtype in _DTYPES
    )


def _general(
    way: int,
    kind: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints | str,
    dilation: Ints,
    groups: int,
    output_padding: Ints,
) -> Tensor:
    arguments = (kind, input, weight, bias, stride, padding, dilation, groups, output_padding)
    axes = abs(kind)
    if way == TORCH or not _is_ours(input, weight, bias):
        return _of_torch(*arguments)
    steps, gaps = _tuple(stride, axes, 1), _tuple(dilation, axes, 1)
    if steps is None or gaps is None or not _is_number(groups, 1):
        return _of_torch(*arguments)
    if weight.dim() != axes + 2 or input.dim() not in (axes + 1, axes + 2):
        return _of_torch(*arguments)
    device = input.device.type
    if device == "cuda" and not _is_compiling():
        tell_tf32()
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        input = cast(input, dtype)  # type: ignore[assignment]
        weight = cast_weight(weight, dtype)
        bias = cast(bias, dtype)
    if weight.dtype != input.dtype or (bias is not None and bias.dtype != input.dtype):
        return _of_torch(*arguments)

    batched = input.dim() == axes + 2
    x = input if batched else input.unsqueeze(0)
    if isinstance(padding, str):
        if padding == "valid" and kind > 0:
            pads: tuple[int, ...] | None = (0,) * axes
        elif padding == "same" and kind > 0 and all(s == 1 for s in steps):
            both, more = _same_padding(weight, gaps)
            if any(more):
                x = F.pad(x, [n for extra in reversed(more) for n in (0, extra)])
            pads = tuple(both)
        else:
            return _of_torch(*arguments)
    else:
        pads = _tuple(padding, axes, 0)
    extra_rows = _tuple(output_padding, axes, 0)
    if pads is None or extra_rows is None:
        return _of_torch(*arguments)
    geometry = Geometry(steps, pads, gaps, _plain(groups))
    try:
        if kind > 0:
            out = conv(x, weight, bias, geometry)
        elif _are_below(extra_rows, steps):
            out = conv_transpose(x, weight, bias, geometry, extra_rows)
        else:
            return _of_torch(*arguments)
    except RuntimeError as error:
        if _is_compiling() or str(error).startswith("fastconv: "):
            raise
        return _of_torch(*arguments)
    return out if batched else out.squeeze(0)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """As `torch.nn.functional.conv1d`: input [N, C, W] or [C, W], weight [K, C/groups, S], bias [K]
    -> [N, K, Q] or [K, Q]. Extents, dtypes, errors: as `conv2d`.
    """
    return convolution(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """As `torch.nn.functional.conv2d`: input [N, C, H, W] or [C, H, W], weight [K, C/groups, R, S],
    bias [K] -> [N, K, P, Q] or [K, P, Q], where P = floor((H + 2 * padding - dilation * (R - 1) -
    1) / stride) + 1; Q likewise.

    Kernels exist for float32, float64, bfloat16 and float16, on the CPU and on CUDA; what else
    torch takes, and where none of them is known to win, torch computes. Raises what torch raises
    for arguments that do not fit, and RuntimeError with the kernel's reason where `fastconv.use`
    names one that does not take the problem.
    """
    return convolution(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """As `torch.nn.functional.conv3d`: input [N, C, D, H, W] or [C, D, H, W], weight [K, C/groups,
    T, R, S], bias [K] -> [N, K, Z, P, Q] or [K, Z, P, Q]. Extents, dtypes, errors: as `conv2d`.
    """
    return convolution(3, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
) -> Tensor:
    """As `torch.nn.functional.conv_transpose1d`: input [N, C, W] or [C, W], weight [C, K/groups,
    S], bias [K] -> [N, K, Q] or [K, Q]. Extents, dtypes, errors: as `conv_transpose2d`.
    """
    return convolution(-1, input, weight, bias, stride, padding, dilation, groups, output_padding)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
) -> Tensor:
    """As `torch.nn.functional.conv_transpose2d`: input [N, C, H, W] or [C, H, W], weight [C,
    K/groups, R, S], bias [K] -> [N, K, P, Q] or [K, P, Q], where P = (H - 1) * stride - 2 * padding
    + dilation * (R - 1) + output_padding + 1; Q likewise. Dtypes, errors: as `conv2d`.
    """
    return convolution(-2, input, weight, bias, stride, padding, dilation, groups, output_padding)


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
) -> Tensor:
    """As `torch.nn.functional.conv_transpose3d`: input [N, C, D, H, W] or [C, D, H, W], weight [C,
    K/groups, T, R, S], bias [K] -> [N, K, Z, P, Q] or [K, Z, P, Q]. Extents, dtypes, errors: as
    `conv_transpose2d`.
    """
    return convolution(-3, input, weight, bias, stride, padding, dilation, groups, output_padding)
