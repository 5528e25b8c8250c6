"""Layers with torch's constructors and `state_dict`, on fastconv's kernels."""

from typing import Any

from fastconv.nn import conv, pool
from fastconv.nn.conv import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
from fastconv.nn.pool import AvgPool2d

__all__ = [
    "AvgPool2d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
]

#: A file for each family that has layers: `OURS`, torch's class to ours, and what `fastconv.explain`
#: asks of a module, `direction_of` and `problem_of`.
FAMILIES: dict[str, Any] = {"conv": conv, "pool": pool}
