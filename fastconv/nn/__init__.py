"""Layers with torch's constructors and `state_dict`, on fastconv's kernels."""

from fastconv.nn.conv import Conv2d

__all__ = ["Conv2d"]
