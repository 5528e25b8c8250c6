"""Convolutions with the signatures of `torch.nn.functional`, on fastconv's kernels.

Both directions run on fastconv's kernels wherever the call is made, enabled or not. What they do
not take (integers, complex numbers, devices without kernels, invalid arguments) is torch's: same result, same
error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad as _forward_ad
from torch.nn import Parameter

from fastconv import _native, _triton
from fastconv.ops.conv import _apply_short, conv, geometry_id
from fastconv.ops.formulas import Geometry
from fastconv.ops.public import autocast_to
from fastconv.policy import tell_tf32

__all__ = ["conv1d", "conv2d", "conv3d"]

Ints = int | Sequence[int]

_TORCH: tuple[Callable[..., Tensor], ...] = (F.conv1d, F.conv2d, F.conv3d)
_DTYPES = frozenset((torch.float32, torch.float64, torch.bfloat16, torch.float16))

# (spatial axes, stride, padding, dilation, groups) as callers write them -> its number and the
# geometry. Filled by calls that got through, so that the next one is looked up and sent.
_known: dict[tuple[Any, ...], tuple[int, Geometry]] = {}

_is_compiling = torch.compiler.is_compiling
_functorch_active = torch._C._are_functorch_transforms_active
_dispatch_modes = torch._C._len_torch_dispatch_stack
_is_autocast = torch.is_autocast_enabled
_is_grad_enabled = torch.is_grad_enabled


def _theirs(
    axes: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints | str,
    dilation: Ints,
    groups: int,
) -> Tensor:
    """torch's own function. Arguments at their defaults are left out: torch's errors list what it
    was given.
    """
    given = {
        "bias": bias,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
    }
    kept = {
        k: v
        for k, v in given.items()
        if not (type(v) is int and v == (k != "padding")) and v is not None
    }
    return _TORCH[axes - 1](input, weight, **kept)


def is_unwatched(input: Tensor, weight: Tensor) -> bool:
    """Whether nothing but reverse-mode autograd has to know of a call on these tensors, which lie
    where fastconv has kernels.
    """
    return (
        type(input) is Tensor
        and (type(weight) is Parameter or type(weight) is Tensor)
        and (
            not _is_autocast("cpu")
            if input.is_cpu
            else _native.has_cuda and input.is_cuda and not _is_autocast("cuda")
        )
        and not _functorch_active()
        and not _dispatch_modes()
        and _forward_ad._current_level < 0
    )


def needs_grad(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the call has to be recorded for a backward pass."""
    return _is_grad_enabled() and (
        weight.requires_grad or input.requires_grad or (bias is not None and bias.requires_grad)
    )


def _convolution(
    axes: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints | str,
    dilation: Ints,
    groups: int,
) -> Tensor:
    if not _is_compiling():
        try:
            known = _known.get((axes, stride, padding, dilation, groups))
        except TypeError:  # a list
            known = None
        if known is not None and is_unwatched(input, weight) and input.dim() == axes + 2:
            if not input.is_cpu:
                tell_tf32()
            try:
                if needs_grad(input, weight, bias):
                    out: Tensor = _apply_short(input, weight, bias, *known)
                    return out
                out = _short_conv(input, weight, bias, known[0])
                return out
            except (RuntimeError, TypeError) as error:
                if str(error).startswith("fastconv:"):
                    raise
                # torch's own call raises torch's own error, or knows what we do not.
                return _theirs(axes, input, weight, bias, stride, padding, dilation, groups)
    return _general(axes, input, weight, bias, stride, padding, dilation, groups)


def _tuple(value: Any, axes: int, least: int) -> tuple[int, ...] | None:
    """One number per axis, or None for what torch would refuse."""
    if isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool):
        value = (value,) * axes
    elif not isinstance(value, Sequence) or isinstance(value, str):
        return None
    if len(value) == 1:
        value = tuple(value) * axes
    if len(value) != axes:
        return None
    if not all(isinstance(v, (int, torch.SymInt)) and v >= least for v in value):
        return None
    return tuple(value)


def _same_padding(weight: Tensor, dilation: Sequence[int]) -> tuple[list[int], list[int]]:
    """Padding of padding='same': what both ends have, and what the far end has more, by axis."""
    total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    return [t // 2 for t in total], [t % 2 for t in total]


def _is_ours(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    return (
        isinstance(input, Tensor)
        and isinstance(weight, Tensor)
        and (bias is None or isinstance(bias, Tensor))
        and (_native.serves(input) or input.device.type in _triton.device_types())
        and weight.device == input.device
        and input.layout == torch.strided
        and weight.layout == torch.strided
        and input.dtype in _DTYPES
        and weight.dtype in _DTYPES
    )


def _general(
    axes: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints | str,
    dilation: Ints,
    groups: int,
) -> Tensor:
    arguments = (axes, input, weight, bias, stride, padding, dilation, groups)
    if not _is_ours(input, weight, bias):
        return _theirs(*arguments)
    steps, gaps = _tuple(stride, axes, 1), _tuple(dilation, axes, 1)
    if steps is None or gaps is None or not isinstance(groups, (int, torch.SymInt)) or groups < 1:
        return _theirs(*arguments)
    if weight.dim() != axes + 2 or input.dim() not in (axes + 1, axes + 2):
        return _theirs(*arguments)
    device = input.device.type
    if device == "cuda" and not torch.compiler.is_compiling():
        tell_tf32()
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        cast = (autocast_to(t, dtype) for t in (input, weight, bias))
        input, weight, bias = cast  # type: ignore[assignment]
    if weight.dtype != input.dtype or (bias is not None and bias.dtype != input.dtype):
        return _theirs(*arguments)

    batched = input.dim() == axes + 2
    x = input if batched else input.unsqueeze(0)
    if isinstance(padding, str):
        if padding == "valid":
            pads: tuple[int, ...] | None = (0,) * axes
        elif padding == "same" and all(s == 1 for s in steps):
            both, more = _same_padding(weight, gaps)
            if any(more):
                x = F.pad(x, [n for extra in reversed(more) for n in (0, extra)])
            pads = tuple(both)
        else:
            return _theirs(*arguments)
    else:
        pads = _tuple(padding, axes, 0)
    if pads is None:
        return _theirs(*arguments)
    geometry = Geometry(steps, pads, gaps, groups)
    try:
        out = conv(x, weight, bias, geometry)
    except RuntimeError as error:
        if torch.compiler.is_compiling() or str(error).startswith("fastconv:"):
            raise
        return _theirs(*arguments)
    if not torch.compiler.is_compiling() and not isinstance(padding, str):
        _remember((axes, stride, padding, dilation, groups), geometry)
    return out if batched else out.squeeze(0)


def _remember(key: tuple[Any, ...], geometry: Geometry) -> None:
    try:
        hash(key)
    except TypeError:
        return
    number = geometry_id(geometry)
    if number >= 0:
        _known[key] = (number, geometry)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """As `torch.nn.functional.conv1d`: input [N, C, W] or [C, W], weight [K, C/groups, S]."""
    return _convolution(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """As `torch.nn.functional.conv2d`: input [N, C, H, W] or [C, H, W], weight [K, C/groups, R, S].

    Kernels exist for float32, float64, bfloat16 and float16, on the CPU and on CUDA; what else
    torch takes, torch computes. Raises what torch raises for arguments that do not fit, and RuntimeError with
    the kernel's reason where `fastconv.use` names one that does not take the problem.
    """
    return _convolution(2, input, weight, bias, stride, padding, dilation, groups)


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
    T, R, S].
    """
    return _convolution(3, input, weight, bias, stride, padding, dilation, groups)


if _native.lib is not None:
    _short_conv: Any = torch.ops.fastconv._conv.default._op
    _packed_conv: Any = torch.ops.fastconv._conv_packed.default._op


def conv2d_packed(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    cache: int,
) -> Tensor | None:
    """`conv2d` without gradients, on the weight packed in `cache` (csrc/torch/pack.h).

    None where the call is not of that kind: the caller goes the ordinary way.
    """
    known = _known.get((2, stride, padding, dilation, groups))
    if (
        known is None
        or not input.is_cpu
        or not is_unwatched(input, weight)
        or input.dim() != 4
        or needs_grad(input, weight, bias)
        or weight.is_inference()
    ):
        return None
    try:
        out: Tensor = _packed_conv(input, weight, bias, known[0], cache, False, weight._version)
    except RuntimeError as error:
        if str(error).startswith("fastconv:"):
            raise
        return None
    return out
