"""`Conv2d`: torch's layer, computed by fastconv."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastconv import _native, functional

__all__ = ["Conv2d"]


class PackCache:
    """A layer's weights packed for its kernels (csrc/torch/pack.h). Copies begin empty."""

    def __init__(self) -> None:
        assert _native.lib is not None
        self.id: int = _native.lib.fastconv_new_cache()
        self._drop = _native.lib.fastconv_drop_cache

    def __del__(self) -> None:
        self._drop(self.id)

    def __reduce__(self) -> tuple[type[PackCache], tuple[()]]:
        return PackCache, ()

    @property
    def packings(self) -> int:
        """How often a weight was packed."""
        assert _native.lib is not None
        return int(_native.lib.fastconv_cache_packings(self.id))

    @property
    def bytes(self) -> int:
        """Memory of the packed weights held now."""
        assert _native.lib is not None
        return int(_native.lib.fastconv_cache_bytes(self.id))


class Conv2d(torch.nn.Conv2d):
    """`torch.nn.Conv2d` on fastconv's kernels: same constructor, initialisation and `state_dict`.

    In eval mode, where no gradient is asked for, the weight is laid out for the kernel once and
    kept until it changes: an in-place update, `load_state_dict`, `.to()`, another Parameter, other
    memory. A change that torch's version counter does not see, as through `weight.data` or NumPy,
    is only seen after `train()`. `train()` also gives the memory back.
    """

    _pack_cache: PackCache | None = None

    def forward(self, input: Tensor) -> Tensor:
        """input [N, C, H, W] or [C, H, W] -> [N, K, P, Q] or [K, P, Q]."""
        weight, bias = self.weight, self.bias
        if self.padding_mode != "zeros":
            pad = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            return functional.conv2d(pad, weight, bias, self.stride, 0, self.dilation, self.groups)
        if (
            not self.training
            and not isinstance(self.padding, str)
            and not torch.compiler.is_compiling()
            and _native.lib is not None
        ):
            cache = self._pack_cache
            if cache is None:
                cache = self._pack_cache = PackCache()
            out = functional.conv2d_packed(
                input, weight, bias, self.stride, self.padding, self.dilation, self.groups, cache.id
            )
            if out is not None:
                return out
        return functional.conv2d(
            input, weight, bias, self.stride, self.padding, self.dilation, self.groups
        )

    def train(self, mode: bool = True) -> Conv2d:
        """As torch's; a layer that trains keeps no packed weight."""
        if mode:
            self._pack_cache = None
        super().train(mode)
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Conv2d:
        self._pack_cache = None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self
