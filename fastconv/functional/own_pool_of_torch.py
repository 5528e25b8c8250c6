"""The pools that torch does not have as TorchScript takes them, which compiles plain types and torch's
functions alone: what a scripted layer runs, and what `torch.jit.trace` records.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._jit_internal import BroadcastingList2  # type: ignore[attr-defined]  # made at run time

__all__ = ["stochastic_pool2d_of_torch", "sub_sample2d_of_torch"]


def stochastic_pool2d_of_torch(
    input: Tensor,
    kernel_size: BroadcastingList2[int],
    stride: BroadcastingList2[int],
    padding: BroadcastingList2[int],
    training: bool,
) -> Tensor:
    """As `fastconv.functional.stochastic_pool2d`, whose draws it makes by the same numbers; the input's
    values are not looked at.
    """
    wide = torch.float64 if input.dtype == torch.float64 else torch.float32
    x = input.to(wide) if input.dim() == 4 else input.to(wide).unsqueeze(0)
    sums = F.avg_pool2d(x, kernel_size, stride, padding, divisor_override=1)
    if training:
        uniform = torch.rand(sums.shape, dtype=wide, device=x.device)
        y: Tensor = torch.ops.fastconv.stochastic_pool(
            x, uniform, kernel_size, stride, padding, "i64", ""
        )[0]
    else:
        squares = F.avg_pool2d(x * x, kernel_size, stride, padding, divisor_override=1)
        none = sums == 0
        y = torch.where(none, 0.0, squares / torch.where(none, 1.0, sums))
    y = y.to(input.dtype)
    return y if input.dim() == 4 else y.squeeze(0)


def sub_sample2d_of_torch(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    kernel_size: BroadcastingList2[int],
    stride: BroadcastingList2[int],
) -> Tensor:
    """As `fastconv.functional.sub_sample2d`."""
    wide = torch.float64 if input.dtype == torch.float64 else torch.float32
    sums = F.avg_pool2d(input.to(wide), kernel_size, stride, divisor_override=1)
    return (sums * weight.to(wide).view(-1, 1, 1) + bias.to(wide).view(-1, 1, 1)).to(input.dtype)
