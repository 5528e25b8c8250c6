"""Layers of the literature that torch does not have: `StochasticPool2d` and `SubSample2d`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch._jit_internal import is_scripting

from fastconv import functional
from fastconv.families.pool import PoolProblem
from fastconv.functional.own_pool import check_windows
from fastconv.functional.own_pool_of_torch import stochastic_pool2d_of_torch, sub_sample2d_of_torch
from fastconv.nn.leaf import Leaf
from fastconv.nn.pool_problem import direction_of as direction_of
from fastconv.nn.pool_problem import record, windows_of
from fastconv.ops.own_pool import sums_type
from fastconv.tensors import DTYPES

__all__ = ["LAYERS", "OURS", "StochasticPool2d", "SubSample2d", "direction_of", "problem_of"]

Ints = int | tuple[int, ...]


class StochasticPool2d(Leaf, torch.nn.Module):
    """Stochastic pooling (Zeiler and Fergus 2013, arXiv:1301.3557): `fastconv.functional.stochastic_pool2d`.

    In training mode a draw from each window by torch's generator, in `eval()` the expectation: input
    [N, C, H, W] or [C, H, W] -> [N, C, P, Q] or [C, P, Q].
    Activations must be at least 0: place a ReLU before it. What `torch.jit` saved of a layer that
    trains is loaded where fastconv is imported: it calls `torch.ops.fastconv`.

    Args:
        kernel_size, stride, padding: as of `torch.nn.MaxPool2d`.

    Raises:
        ValueError, TypeError: naming the argument that does not fit.
    """

    def __init__(self, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0) -> None:
        super().__init__()
        check_windows(kernel_size, stride, padding)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] or [C, H, W] to [N, C, P, Q] or [C, P, Q]."""
        if is_scripting():
            return stochastic_pool2d_of_torch(
                input, self.kernel_size, self.stride, self.padding, self.training
            )
        else:
            return functional.stochastic_pool2d(
                input, self.kernel_size, self.stride, self.padding, self.training
            )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class SubSample2d(Leaf, torch.nn.Module):
    """LeNet's trainable sub-sampling (LeCun et al. 1998): `fastconv.functional.sub_sample2d`.

    A window's sum times a weight plus a bias, both of its channel: input [N, C, H, W] or [C, H, W] ->
    [N, C, P, Q] or [C, P, Q]. Weights of one by the window's elements and biases of 0 make it begin as a
    mean.

    Args:
        channels: of the input.
        kernel_size, stride: as of `torch.nn.AvgPool2d`.

    Raises:
        ValueError, TypeError: naming the argument that does not fit.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: Ints = 2,
        stride: Ints | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(channels, int) or channels < 1:
            raise ValueError(f"channels is {channels!r}; it must be an integer of at least 1")
        check_windows(kernel_size, stride)
        self.channels = channels
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.weight = torch.nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.bias = torch.nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A mean."""
        window, _, _ = check_windows(self.kernel_size)
        torch.nn.init.constant_(self.weight, 1 / math.prod(window))
        torch.nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] or [C, H, W] to [N, C, P, Q] or [C, P, Q]."""
        if is_scripting():
            return sub_sample2d_of_torch(
                input, self.weight, self.bias, self.kernel_size, self.stride
            )
        else:
            return functional.sub_sample2d(
                input, self.weight, self.bias, self.kernel_size, self.stride
            )

    def extra_repr(self) -> str:
        return f"{self.channels}, kernel_size={self.kernel_size}, stride={self.stride}"


#: None of torch's is one of these.
OURS: dict[type[torch.nn.Module], type[torch.nn.Module]] = {}
LAYERS = (StochasticPool2d, SubSample2d)


def problem_of(layer: Any, x: Tensor, y: Tensor) -> PoolProblem | None:
    """The problem of a layer called with ``x`` [N, C, H, W], giving ``y``; None for an image without a batch.

    A sub-sampling is a sum, weighted and shifted as it is stored; an expectation is two sums.
    """
    if x.dim() != 4:
        return None
    values: dict[str, Any] = windows_of(layer, 2)
    stochastic = isinstance(layer, StochasticPool2d)
    if stochastic:
        values["dtype"] = DTYPES[sums_type(x.dtype)]
    if stochastic and layer.training:
        taps = values["R"] * values["S"]
        values |= {"mode": "sto", "index": "u8" if taps <= 255 else "i64"}
    else:
        values |= {"mode": "avg", "divisor": 1}
    return record(x, y, True, values)
