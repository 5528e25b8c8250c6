"""torch's pooling layers, computed by fastconv: same constructors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._jit_internal import is_scripting

from fastconv import functional
from fastconv.nn.leaf import Leaf
from fastconv.nn.pool_problem import direction_of as direction_of
from fastconv.nn.pool_problem import problem_of as problem_of

__all__ = [
    "LAYERS",
    "OURS",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "direction_of",
    "problem_of",
]


#: torch's own functions, which alone a script compiles.
F: Any = torch.nn.functional


class AvgPool1d(Leaf, torch.nn.AvgPool1d):
    """`torch.nn.AvgPool1d` by `fastconv.functional.avg_pool1d`, which tells shapes and dtypes."""

    def forward(self, input: Tensor) -> Tensor:
        if is_scripting():
            return F.avg_pool1d(
                input,
                self.kernel_size,
                self.stride,
                self.padding,
                self.ceil_mode,
                self.count_include_pad,
            )
        else:
            return functional.avg_pool1d(
                input,
                self.kernel_size,
                self.stride,
                self.padding,
                self.ceil_mode,
                self.count_include_pad,
            )


class AvgPool2d(Leaf, torch.nn.AvgPool2d):
    """`torch.nn.AvgPool2d` by `fastconv.functional.avg_pool2d`, which tells shapes and dtypes."""

    def forward(self, input: Tensor) -> Tensor:
        if is_scripting():
            return F.avg_pool2d(
                input,
                self.kernel_size,
                self.stride,
                self.padding,
                self.ceil_mode,
                self.count_include_pad,
                self.divisor_override,
            )
        else:
            return functional.avg_pool2d(
                input,
                self.kernel_size,
                self.stride,
                self.padding,
                self.ceil_mode,
                self.count_include_pad,
                self.divisor_override,
            )


class AvgPool3d(Leaf, torch.nn.AvgPool3d):
    """`torch.nn.AvgPool3d` by `fastconv.functional.avg_pool3d`, which tells shapes and dtypes."""

    def forward(self, input: Tensor) -> Tensor:
        if is_scripting():
            return F.avg_pool3d(
                input,
                self.kernel_size,
                self.stride,
                self.padding,
                self.ceil_mode,
                self.count_include_pad,
                self.divisor_override,
            )
        else:
            return functional.avg_pool3d(
                input,
                self.kernel_size,
                self.stride,
                self.padding,
                self.ceil_mode,
                self.count_include_pad,
                self.divisor_override,
            )


class MaxPool1d(Leaf, torch.nn.MaxPool1d):
    """`torch.nn.MaxPool1d` by `fastconv.functional.max_pool1d`, which tells shapes and dtypes."""

    def forward(self, input: Tensor):
        if is_scripting():
            return F.max_pool1d(
                input,
                self.kernel_size,
                self.stride,
                self.padding,
                self.dilation,
                ceil_mode=self.ceil_mode,
                return_indices=self.return_indices,
            )
        else:
            return functional.max_pool1d(
                input,
                self.kernel_size,
                self.stride,
                self.padding,
                self.dilation,
                ceil_mode=self.ceil_mode,
                return_indices=self.return_indices,
            )


class MaxPool2d(Leaf, torch.nn.MaxPool2d):
    """`torch.nn.MaxPool2d` by `fastconv.functional.max_pool2d`, which tells shapes and dtypes."""

    def forward(self, input: Tensor):
        if is_scripting():
            return F.max_pool2d(
                input,
                self.kernel_size,
                self.stride,
                self.padding,
                self.dilation,
                ceil_mode=self.ceil_mode,
                return_indices=self.return_indices,
            )
        else:
            return functional.max_pool2d(
                input,
                self.kernel_size,
                self.stride,
                self.padding,
                self.dilation,
                ceil_mode=self.ceil_mode,
                return_indices=self.return_indices,
            )


class MaxPool3d(Leaf, torch.nn.MaxPool3d):
    """`torch.nn.MaxPool3d` by `fastconv.functional.max_pool3d`, which tells shapes and dtypes."""

    def forward(self, input: Tensor):
        if is_scripting():
            return F.max_pool3d(
                input,
                self.kernel_size,
                self.stride,
                self.padding,
                self.dilation,
                ceil_mode=self.ceil_mode,
                return_indices=self.return_indices,
            )
        else:
            return functional.max_pool3d(
                input,
                self.kernel_size,
                self.stride,
                self.padding,
                self.dilation,
                ceil_mode=self.ceil_mode,
                return_indices=self.return_indices,
            )


class AdaptiveAvgPool1d(Leaf, torch.nn.AdaptiveAvgPool1d):
    """`torch.nn.AdaptiveAvgPool1d` by `fastconv.functional.adaptive_avg_pool1d`, which tells shapes and dtypes."""

    def forward(self, input: Tensor) -> Tensor:
        if is_scripting():
            return F.adaptive_avg_pool1d(input, self.output_size)
        else:
            return functional.adaptive_avg_pool1d(input, self.output_size)


class AdaptiveAvgPool2d(Leaf, torch.nn.AdaptiveAvgPool2d):
    """`torch.nn.AdaptiveAvgPool2d` by `fastconv.functional.adaptive_avg_pool2d`, which tells shapes and dtypes."""

    def forward(self, input: Tensor) -> Tensor:
        if is_scripting():
            return F.adaptive_avg_pool2d(input, self.output_size)
        else:
            return functional.adaptive_avg_pool2d(input, self.output_size)


class AdaptiveAvgPool3d(Leaf, torch.nn.AdaptiveAvgPool3d):
    """`torch.nn.AdaptiveAvgPool3d` by `fastconv.functional.adaptive_avg_pool3d`, which tells shapes and dtypes."""

    def forward(self, input: Tensor) -> Tensor:
        if is_scripting():
            return F.adaptive_avg_pool3d(input, self.output_size)
        else:
            return functional.adaptive_avg_pool3d(input, self.output_size)


class AdaptiveMaxPool1d(Leaf, torch.nn.AdaptiveMaxPool1d):
    """`torch.nn.AdaptiveMaxPool1d` by `fastconv.functional.adaptive_max_pool1d`, which tells shapes and dtypes."""

    def forward(self, input: Tensor):
        if is_scripting():
            return F.adaptive_max_pool1d(
                input, self.output_size, return_indices=self.return_indices
            )
        else:
            return functional.adaptive_max_pool1d(
                input, self.output_size, return_indices=self.return_indices
            )


class AdaptiveMaxPool2d(Leaf, torch.nn.AdaptiveMaxPool2d):
    """`torch.nn.AdaptiveMaxPool2d` by `fastconv.functional.adaptive_max_pool2d`, which tells shapes and dtypes."""

    def forward(self, input: Tensor):
        if is_scripting():
            return F.adaptive_max_pool2d(
                input, self.output_size, return_indices=self.return_indices
            )
        else:
            return functional.adaptive_max_pool2d(
                input, self.output_size, return_indices=self.return_indices
            )


class AdaptiveMaxPool3d(Leaf, torch.nn.AdaptiveMaxPool3d):
    """`torch.nn.AdaptiveMaxPool3d` by `fastconv.functional.adaptive_max_pool3d`, which tells shapes and dtypes."""

    def forward(self, input: Tensor):
        if is_scripting():
            return F.adaptive_max_pool3d(
                input, self.output_size, return_indices=self.return_indices
            )
        else:
            return functional.adaptive_max_pool3d(
                input, self.output_size, return_indices=self.return_indices
            )


class LPPool1d(Leaf, torch.nn.LPPool1d):
    """`torch.nn.LPPool1d` by `fastconv.functional.lp_pool1d`, which tells shapes and dtypes."""

    def forward(self, input: Tensor) -> Tensor:
        if is_scripting():
            return F.lp_pool1d(input, self.norm_type, self.kernel_size, self.stride, self.ceil_mode)
        else:
            return functional.lp_pool1d(
                input, self.norm_type, self.kernel_size, self.stride, self.ceil_mode
            )


class LPPool2d(Leaf, torch.nn.LPPool2d):
    """`torch.nn.LPPool2d` by `fastconv.functional.lp_pool2d`, which tells shapes and dtypes."""

    def forward(self, input: Tensor) -> Tensor:
        if is_scripting():
            return F.lp_pool2d(input, self.norm_type, self.kernel_size, self.stride, self.ceil_mode)
        else:
            return functional.lp_pool2d(
                input, self.norm_type, self.kernel_size, self.stride, self.ceil_mode
            )


class LPPool3d(Leaf, torch.nn.LPPool3d):
    """`torch.nn.LPPool3d` by `fastconv.functional.lp_pool3d`, which tells shapes and dtypes."""

    def forward(self, input: Tensor) -> Tensor:
        if is_scripting():
            return F.lp_pool3d(input, self.norm_type, self.kernel_size, self.stride, self.ceil_mode)
        else:
            return functional.lp_pool3d(
                input, self.norm_type, self.kernel_size, self.stride, self.ceil_mode
            )


#: Ours for each of torch's.
OURS: dict[type[torch.nn.Module], type[torch.nn.Module]] = {
    torch.nn.AvgPool1d: AvgPool1d,
    torch.nn.AvgPool2d: AvgPool2d,
    torch.nn.AvgPool3d: AvgPool3d,
    torch.nn.MaxPool1d: MaxPool1d,
    torch.nn.MaxPool2d: MaxPool2d,
    torch.nn.MaxPool3d: MaxPool3d,
    torch.nn.AdaptiveAvgPool1d: AdaptiveAvgPool1d,
    torch.nn.AdaptiveAvgPool2d: AdaptiveAvgPool2d,
    torch.nn.AdaptiveAvgPool3d: AdaptiveAvgPool3d,
    torch.nn.AdaptiveMaxPool1d: AdaptiveMaxPool1d,
    torch.nn.AdaptiveMaxPool2d: AdaptiveMaxPool2d,
    torch.nn.AdaptiveMaxPool3d: AdaptiveMaxPool3d,
    torch.nn.LPPool1d: LPPool1d,
    torch.nn.LPPool2d: LPPool2d,
    torch.nn.LPPool3d: LPPool3d,
}
LAYERS = tuple(OURS)
