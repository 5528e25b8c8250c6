"""Pools with the signatures of `torch.nn.functional`.

Kernels exist for float32, bfloat16 and float16 on the CPU; what else torch takes, torch computes. A
call whose gradient is asked for keeps an index of a maximum, of one byte of channels_last images,
where torch keeps eight bytes and the input. Results have the input's dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastconv.functional.pool_call import adaptive, maximum, mean, power_mean

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


def avg_pool1d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """As `torch.nn.functional.avg_pool1d`, the mean of each window: input [N, C, W] or [C, W] ->
    [N, C, Q] or [C, Q]. Extents, dtypes, errors: as `avg_pool2d`.
    """
    return mean(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """As `torch.nn.functional.avg_pool2d`, the mean of each window: input [N, C, H, W] or [C, H, W]
    -> [N, C, P, Q] or [C, P, Q], where P = floor((H + 2 * padding - kernel_size) / stride) + 1, of
    `ceil_mode` rounded up less a window that begins behind the image; Q likewise.

    Kernels exist for float32, bfloat16 and float16; what else torch takes, and where none of them
    is known to win, torch computes. Raises what torch raises for arguments that do not fit, and
    RuntimeError with the kernel's reason where `fastconv.use` names one that does not take the
    problem.
    """
    return mean(
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
    """As `torch.nn.functional.avg_pool3d`, the mean of each window: input [N, C, D, H, W] or [C, D,
    H, W] -> [N, C, Z, P, Q] or [C, Z, P, Q]. Extents, dtypes, errors: as `avg_pool2d`.
    """
    return mean(
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
    """As `torch.nn.functional.max_pool1d`, the maximum of each window: input [N, C, W] or [C, W] ->
    [N, C, Q] or [C, Q]; with `return_indices` also the places of the maxima in the image, int64, of
    the same sizes. Extents, dtypes, errors: as `max_pool2d`.
    """
    return maximum(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """As `torch.nn.functional.max_pool2d`, the maximum of each window: input [N, C, H, W] or [C, H,
    W] -> [N, C, P, Q] or [C, P, Q]; with `return_indices` also the places of the maxima in the
    image, int64, of the same sizes. P = floor((H + 2 * padding - dilation * (kernel_size - 1) - 1)
    / stride) + 1, of `ceil_mode` rounded up less a window that begins behind the image; Q likewise.
    Of equal inputs the first is taken, and NaN before any number.

    Dtypes, errors: as `avg_pool2d`.
    """
    return maximum(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """As `torch.nn.functional.max_pool3d`, the maximum of each window: input [N, C, D, H, W] or [C,
    D, H, W] -> [N, C, Z, P, Q] or [C, Z, P, Q]; with `return_indices` also the places of the maxima
    in the image, int64, of the same sizes. Extents, dtypes, errors: as `max_pool2d`.
    """
    return maximum(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """As `torch.nn.functional.adaptive_avg_pool1d`, the mean of windows that share the image
    evenly: input [N, C, W] or [C, W] -> [N, C, Q] or [C, Q].

    Args:
        output_size: a number: Q; None for an axis that stays.

    Dtypes, errors: as `avg_pool2d`.
    """
    y: Tensor = adaptive(1, "adaptive_avg_pool", input, output_size)
    return y


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """As `torch.nn.functional.adaptive_avg_pool2d`, the mean of windows that share the image
    evenly: input [N, C, H, W] or [C, H, W] -> [N, C, P, Q] or [C, P, Q].

    Args:
        output_size: (P, Q), or one number for both; None for an axis that stays.

    Dtypes, errors: as `avg_pool2d`.
    """
    y: Tensor = adaptive(2, "adaptive_avg_pool", input, output_size)
    return y


def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """As `torch.nn.functional.adaptive_avg_pool3d`, the mean of windows that share the image
    evenly: input [N, C, D, H, W] or [C, D, H, W] -> [N, C, Z, P, Q] or [C, Z, P, Q].

    Args:
        output_size: (Z, P, Q), or one number for all; None for an axis that stays.

    Dtypes, errors: as `avg_pool2d`.
    """
    y: Tensor = adaptive(3, "adaptive_avg_pool", input, output_size)
    return y


def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """As `torch.nn.functional.adaptive_max_pool1d`, the maximum of windows that share the image
    evenly: input [N, C, W] or [C, W] -> [N, C, Q] or [C, Q].

    Args:
        output_size: a number: Q; None for an axis that stays.
        return_indices: whether to give the places of the maxima in the image too, int64.

    Dtypes, errors: as `avg_pool2d`.
    """
    return adaptive(1, "adaptive_max_pool", input, output_size, return_indices)


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """As `torch.nn.functional.adaptive_max_pool2d`, the maximum of windows that share the image
    evenly: input [N, C, H, W] or [C, H, W] -> [N, C, P, Q] or [C, P, Q].

    Args:
        output_size: (P, Q), or one number for both; None for an axis that stays.
        return_indices: whether to give the places of the maxima in the image too, int64.

    Dtypes, errors: as `avg_pool2d`.
    """
    return adaptive(2, "adaptive_max_pool", input, output_size, return_indices)


def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """As `torch.nn.functional.adaptive_max_pool3d`, the maximum of windows that share the image
    evenly: input [N, C, D, H, W] or [C, D, H, W] -> [N, C, Z, P, Q] or [C, Z, P, Q].

    Args:
        output_size: (Z, P, Q), or one number for all; None for an axis that stays.
        return_indices: whether to give the places of the maxima in the image too, int64.

    Dtypes, errors: as `avg_pool2d`.
    """
    return adaptive(3, "adaptive_max_pool", input, output_size, return_indices)


def lp_pool1d(
    input: Tensor,
    norm_type: float,
    kernel_size: Ints,
    stride: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """As `torch.nn.functional.lp_pool1d`, the `norm_type`-norm of each window: input [N, C, W] or
    [C, W] -> [N, C, Q] or [C, Q]. Extents, without padding, dtypes, errors: as `avg_pool2d`.
    """
    try:
        return power_mean(1, input, norm_type, kernel_size, stride, ceil_mode)
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
    """As `torch.nn.functional.lp_pool2d`, the `norm_type`-norm of each window: input [N, C, H, W]
    or [C, H, W] -> [N, C, P, Q] or [C, P, Q]. Extents, without padding, dtypes, errors: as
    `avg_pool2d`.
    """
    try:
        return power_mean(2, input, norm_type, kernel_size, stride, ceil_mode)
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
    """As `torch.nn.functional.lp_pool3d`, the `norm_type`-norm of each window: input [N, C, D, H,
    W] or [C, D, H, W] -> [N, C, Z, P, Q] or [C, Z, P, Q]. Extents, without padding, dtypes, errors:
    as `avg_pool2d`.
    """
    try:
        return power_mean(3, input, norm_type, kernel_size, stride, ceil_mode)
    except (RuntimeError, TypeError, AttributeError):  # torch's own call raises torch's own error
        y: Tensor = F.lp_pool3d(input, norm_type, kernel_size, stride, ceil_mode)
        return y
