"""torch's rules for the strides of a convolution's result, as in csrc/torch/problem.cc."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

__all__ = ["dense_strides", "gradient_strides", "result_is_channels_last"]


def strides_like_channels_last(sizes: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether a tensor of four axes or five reads as channels last (`suggest_memory_format`)."""
    if len(sizes) not in (4, 5) or strides[1] == 0:
        return False
    least = 0
    for d in (1, *range(len(sizes) - 1, 1, -1), 0):
        if sizes[d] == 0 or strides[d] < least:
            return False
        if d == 0 and least == strides[1]:
            return False
        least = strides[d]
        if sizes[d] > 1:
            least = least * sizes[d]
    return True


@functools.cache
def _onednn_has(dtype: torch.dtype) -> bool:
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if dtype == torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return dtype == torch.float32


def _onednn_takes(
    sizes: Sequence[int],
    weight: Sequence[int],
    dtype: torch.dtype,
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> bool:
    if not _onednn_has(dtype):
        return False
    if dtype != torch.float32:
        return True
    wide = any(s != 1 for s in stride) or any(d != 1 for d in dilation)
    return bool(
        (wide or sizes[0] >= 16 or weight[4] != 1 or weight[3] != 1 or torch.get_num_threads() > 1)
        and (
            groups > 1
            or (weight[4] > 3 and weight[3] > 3)
            or sizes[0] > 1
            or sizes[0] * sizes[1] * sizes[2] * sizes[3] > 20480
        )
    )


def result_is_channels_last(
    sizes: Sequence[int],
    strides: Sequence[int],
    weight: torch.Tensor,
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> bool:
    """Whether torch's convolution of an input of these sizes and strides is channels last."""
    on_cuda = weight.device.type == "cuda"
    if sizes[0] == 0 or (on_cuda and weight.dtype == torch.float64):
        return False
    wsizes, wstrides = weight.shape, weight.stride()
    if len(sizes) == 3:
        return strides_like_channels_last(
            (wsizes[0], wsizes[1], 1, wsizes[2]),
            (wstrides[0], wstrides[1], wsizes[2] * wstrides[2], wstrides[2]),
        )
    if not strides_like_channels_last(sizes, strides) and not strides_like_channels_last(
        wsizes, wstrides
    ):
        return False
    if len(sizes) == 4 or on_cuda:
        return True
    return _onednn_takes(sizes, wsizes, weight.dtype, stride, dilation, groups)


def dense_strides(sizes: Sequence[int], channels_last: bool) -> list[int]:
    """Strides of a dense tensor in the order of its axes, or channels last."""
    axes = list(range(len(sizes) - 1, 1, -1))
    order = [1, *axes, 0] if channels_last else [*axes, 1, 0]
    strides = [1] * len(sizes)
    step = 1
    for d in order:
        strides[d] = step
        step = step * (sizes[d] if sizes[d] > 1 else 1)
    return strides


def gradient_strides(sizes: Sequence[int], strides: Sequence[int]) -> list[int]:
    """A weight's own strides if it is dense in any order of its axes, else contiguous ones."""
    left = list(range(len(sizes)))
    step = 1
    while left:
        axis = next((d for d in left if sizes[d] == 1 or strides[d] == step), None)
        if axis is None:
            return dense_strides(sizes, False)
        left.remove(axis)
        step = step * sizes[axis]
    return list(strides)
