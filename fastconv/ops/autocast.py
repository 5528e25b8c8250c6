"""Autocast of a convolution's operands, weights by the casts that torch itself keeps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fastconv.ops.watch import SHORT, way_of

__all__ = ["cast", "cast_weight"]

_CONVS = (F.conv1d, F.conv2d, F.conv3d)


def cast(tensor: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """What autocast hands to a convolution for `tensor`: float64 is left alone."""
    if tensor is None or not tensor.is_floating_point() or tensor.dtype == torch.float64:
        return tensor
    return tensor.to(dtype)


def _is_kept(weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether torch would keep this cast until autocast's outermost scope ends."""
    return (
        torch.is_autocast_cache_enabled()
        and weight.dtype == torch.float32
        and weight.requires_grad
        and weight.is_leaf
        and not weight.is_inference()
        and not weight._is_view()
        and 3 <= weight.dim() <= 5
        and 0 not in weight.shape
        and dtype == torch.get_autocast_dtype(weight.device.type)
        and way_of(weight, weight) == SHORT
    )


def cast_weight(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """As `cast`, of a weight [K, C/groups, ...] that is cast once within an autocast scope.

    torch keeps the casts of leaves for its own convolutions and hands them to nobody else. A
    convolution of no images costs next to nothing, takes the cast from there or leaves it there, and
    keeps it for its derivative, where it can be read.
    """
    if not _is_kept(weight, dtype):
        out = cast(weight, dtype)
        assert out is not None
        return out
    with torch.inference_mode(False), torch.enable_grad():
        nothing = weight.new_empty((0, *weight.shape[1:]))
        node = _CONVS[weight.dim() - 3](nothing, weight).grad_fn
    kept: Tensor = node._saved_weight  # type: ignore[union-attr]
    return kept
