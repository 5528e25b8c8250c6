"""torch's six convolution layers, computed by fastconv.

In eval mode, where no gradient is asked for, a layer keeps its weight as it lies packed for its
kernel. Each call compares the weight's content with what was packed, so that no change is missed,
whoever made it; `fastconv.freeze` spares the comparison for a promise. `train()` gives the memory
back.
"""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._jit_internal import is_scripting
from torch.nn.modules.conv import _ConvNd

from fastconv import _native
from fastconv.functional.conv import convolution
from fastconv.nn.conv_problem import direction_of as direction_of
from fastconv.nn.conv_problem import problem_of as problem_of
from fastconv.nn.leaf import pass_for_torchs

__all__ = [
    "LAYERS",
    "OURS",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Layer",
    "PackCache",
]


class PackCache:
    """A layer's weights packed for its kernels (csrc/torch/pack.h)."""

    def __init__(self, frozen: bool = False) -> None:
        assert _native.lib is not None
        self.id: int = _native.lib.fastconv_new_cache()
        #: Whether the weight was promised to be the one that was packed.
        self.frozen = frozen
        self._drop = _native.lib.fastconv_drop_cache
        self._weight: Tensor | None = None
        self._weights = 0  # how many there were

    def version_of(self, weight: Tensor) -> int:
        """A number that another one follows wherever a frozen weight is another Parameter, or where
        its version is.
        """
        if weight is not self._weight:
            self._weight = weight
            self._weights += 1
        return self._weights << 32 | weight._version

    def __del__(self) -> None:
        self._drop(self.id)

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


#: Paddings that layers made up, each tuple once: functional knows arguments by their identities.
_paddings: dict[tuple[int, ...], tuple[int, ...]] = {}


class Layer(_ConvNd):
    """What the six have in common: the packed weight, and how the layer passes for torch's own."""

    _pack_cache: PackCache | None = None

    def __new__(cls, *_: Any, **__: Any) -> Self:
        self = super().__new__(cls)
        pass_for_torchs(self)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Copies begin without a packed weight."""
        return {k: v for k, v in self.__dict__.items() if k != "_pack_cache"}

    def _new_cache(self) -> PackCache | None:
        if _native.lib is None or torch.compiler.is_compiling():
            return None
        self._pack_cache = PackCache()
        return self._pack_cache

    def _renew_cache(self) -> None:
        cache = self._pack_cache
        self._pack_cache = PackCache(cache.frozen) if cache is not None else None

    def train(self, mode: bool = True) -> Self:
        """As torch's; a layer that trains keeps no packed weight and is not frozen."""
        if mode:
            self._pack_cache = None
        super().train(mode)
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._renew_cache()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._renew_cache()
        super()._load_from_state_dict(*args, **kwargs)


# TorchScript reads all of a `forward`, and compiles what stands under is_scripting().


class _Plain(Layer):
    _axes: int

    if TYPE_CHECKING:

        def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor: ...

    def forward(self, input: Tensor) -> Tensor:
        """input [N, C, ...] or [C, ...] -> [N, K, ...] or [K, ...]."""
        if is_scripting():
            return self._conv_forward(input, self.weight, self.bias)
        else:
            parameters: Any = self._parameters  # the attributes would be looked up in vain first
            weight = parameters["weight"] if "weight" in parameters else self.weight  # noqa: SIM401
            bias = parameters["bias"] if "bias" in parameters else self.bias  # noqa: SIM401
            padding: Any = self.padding
            if self.padding_mode != "zeros":
                input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
                padding = 0
            cache = self._pack_cache
            if not self.training:
                if cache is None:
                    cache = self._new_cache()
                if type(padding) is str and cache is not None:
                    padding = self._padding_in_numbers(weight.shape[2:])
            return convolution(
                self._axes, input, weight, bias, self.stride, padding, self.dilation, self.groups,
                0, cache,
            )  # fmt: skip

    def _padding_in_numbers(self, taps: torch.Size) -> str | int | tuple[int, ...]:
        """padding='same' or 'valid' as one number per axis of the weight's `taps`; as it is where
        these are not the same at both ends, and where torch refuses.
        """
        padding, stride, dilation = self.padding, self.stride, self.dilation
        if padding == "valid":
            return 0
        if padding != "same" or type(dilation) is not tuple or type(stride) is not tuple:
            return padding
        if len(dilation) != len(taps):
            return padding
        totals = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
        if any(s != 1 for s in stride) or any(t % 2 for t in totals):
            return padding
        pads = tuple(int(t) // 2 for t in totals)
        return _paddings.setdefault(pads, pads)


class _Transposed(Layer):
    _axes: int

    if TYPE_CHECKING:

        def _torch_forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor: ...

        def _output_padding(self, *_: Any) -> list[int]: ...

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """input [N, C, ...] or [C, ...] -> [N, K, ...] or [K, ...], of the extents `output_size`
        where they are given.
        """
        if is_scripting():
            return self._torch_forward(input, output_size)
        else:
            if self.padding_mode != "zeros" or not isinstance(self.padding, tuple):
                return self._torch_forward(input, output_size)
            parameters: Any = self._parameters  # the attributes would be looked up in vain first
            weight = parameters["weight"] if "weight" in parameters else self.weight  # noqa: SIM401
            bias = parameters["bias"] if "bias" in parameters else self.bias  # noqa: SIM401
            extra: Any = self.output_padding
            if output_size is not None:
                extra = tuple(self._output_padding(
                    input, output_size, self.stride, self.padding, self.kernel_size, self._axes,
                    self.dilation,
                ))  # fmt: skip
            cache = self._pack_cache
            if cache is None and not self.training:
                cache = self._new_cache()
            return convolution(
                -self._axes, input, weight, bias, self.stride, self.padding, self.dilation,
                self.groups, extra, cache,
            )  # fmt: skip


def _named(function: Any, name: str) -> Any:
    """The function under the name by which TorchScript compiles it as a second method."""
    named = FunctionType(function.__code__, function.__globals__, name, function.__defaults__)
    named.__annotations__ = function.__annotations__
    return named


class Conv1d(_Plain, torch.nn.Conv1d):
    """`torch.nn.Conv1d` on fastconv's kernels: same constructor, initialisation and `state_dict`;
    `fastconv.functional.conv1d` tells shapes and dtypes.
    """

    _axes = 1


class Conv2d(_Plain, torch.nn.Conv2d):
    """`torch.nn.Conv2d` on fastconv's kernels: same constructor, initialisation and `state_dict`;
    `fastconv.functional.conv2d` tells shapes and dtypes.
    """

    _axes = 2


class Conv3d(_Plain, torch.nn.Conv3d):
    """`torch.nn.Conv3d` on fastconv's kernels: same constructor, initialisation and `state_dict`;
    `fastconv.functional.conv3d` tells shapes and dtypes.
    """

    _axes = 3


class ConvTranspose1d(_Transposed, torch.nn.ConvTranspose1d):
    """`torch.nn.ConvTranspose1d` on fastconv's kernels: same constructor, initialisation,
    `state_dict`; `fastconv.functional.conv_transpose1d` tells shapes and dtypes.
    """

    _axes = 1
    _torch_forward = _named(torch.nn.ConvTranspose1d.forward, "_torch_forward")


class ConvTranspose2d(_Transposed, torch.nn.ConvTranspose2d):
    """`torch.nn.ConvTranspose2d` on fastconv's kernels: same constructor, initialisation,
    `state_dict`; `fastconv.functional.conv_transpose2d` tells shapes and dtypes.
    """

    _axes = 2
    _torch_forward = _named(torch.nn.ConvTranspose2d.forward, "_torch_forward")


class ConvTranspose3d(_Transposed, torch.nn.ConvTranspose3d):
    """`torch.nn.ConvTranspose3d` on fastconv's kernels: same constructor, initialisation,
    `state_dict`; `fastconv.functional.conv_transpose3d` tells shapes and dtypes.
    """

    _axes = 3
    _torch_forward = _named(torch.nn.ConvTranspose3d.forward, "_torch_forward")


#: Ours for each of torch's.
OURS: dict[type[torch.nn.Module], type[torch.nn.Module]] = {
    torch.nn.Conv1d: Conv1d,
    torch.nn.Conv2d: Conv2d,
    torch.nn.Conv3d: Conv3d,
    torch.nn.ConvTranspose1d: ConvTranspose1d,
    torch.nn.ConvTranspose2d: ConvTranspose2d,
    torch.nn.ConvTranspose3d: ConvTranspose3d,
}
LAYERS = tuple(OURS)
