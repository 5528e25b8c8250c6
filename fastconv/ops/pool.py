"""Pooling: the ops' schemas, fakes, registered autograd and meaning in aten's terms.

Letters: input [N, C, ...] of two or three spatial axes, output [N, C, ...]. ``arguments`` are what an op takes
between its tensors and its last words: kernel_size, stride, padding, then for a mean ceil_mode,
count_include_pad and divisor_override, for a maximum dilation and ceil_mode; of adaptive windows
output_size alone. Lists have a number an axis.

A mean is linear: the derivative of each direction is the other. So is a maximum once its indices
are known: the derivative of its gradient picks by them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table, meta_table

from fastconv import _native
from fastconv.ops.fake import register_fake
from fastconv.ops.layout import dense_strides, strides_like_channels_last

__all__ = ["KINDS", "Kind", "channels_last_of", "picked"]

Sizes = Sequence[int]
_WINDOWS = "SymInt[] kernel_size, SymInt[] stride"
_MEAN = (
    f"{_WINDOWS}=[], SymInt[] padding=[], bool ceil_mode=False, bool count_include_pad=True, "
    "SymInt? divisor_override=None"
)
_MAXIMUM = f"{_WINDOWS}, SymInt[] padding, SymInt[] dilation, bool ceil_mode"
_ADAPTIVE = "SymInt[] output_size"


@dataclasses.dataclass(frozen=True)
class Kind:
    """An op of pooling, `torch.ops.fastconv.<name>`, and ``<name>_backward``.

    Attributes:
        parameters: of its `arguments`, as a schema has them.
        count: how many there are.
        indexed: whether it returns indices too.
        word: a parameter after the arguments, beside the kernel's name.
    """

    name: str
    parameters: str
    count: int
    indexed: bool
    word: str = ""

    @property
    def schemas(self) -> dict[str, str]:
        """Of both ops."""
        index, result = ("Tensor index, ", "(Tensor, Tensor)") if self.indexed else ("", "Tensor")
        rest, last = f"{index}SymInt[] input_size, bool channels_last", 'str kernel_name=""'
        windows = "" if self.is_adaptive else f"{self.parameters}, "
        return {
            self.name: f"(Tensor input, {self.parameters}, {self.word}{last}) -> {result}",
            f"{self.name}_backward": f"(Tensor grad, {rest}, {windows}{last}) -> Tensor",
        }

    @property
    def is_adaptive(self) -> bool:
        return self.name.startswith("adaptive")

    def aten(self, axes: int) -> Any:
        """torch's op of so many spatial axes."""
        name = f"{self.name}{axes}d" + ("_with_indices" if self.name == "max_pool" else "")
        return getattr(torch.ops.aten, "_" + name if name.startswith("adaptive_avg") else name)

    def aten_backward(self, axes: int) -> Any:
        return getattr(torch.ops.aten, f"{self.aten(axes).__name__}_backward")

    def forward(
        self, x: Tensor, arguments: tuple[Any, ...], *words: str, short: bool = False
    ) -> Any:
        """The op on `arguments`; `short` where nothing but the kernel is to see the call."""
        op = _SHORT.get(self.name) if short else None
        return (op or getattr(torch.ops.fastconv, self.name))(x, *arguments, *words)

    def backward(
        self, dy: Tensor, index: Tensor | None, sizes: Sizes, last: bool,
        arguments: tuple[Any, ...], short: bool = False,
    ) -> Tensor:  # fmt: skip
        """The gradient of an input of those sizes, in that format."""
        name = f"{self.name}_backward"
        op = _SHORT.get(name) if short else None
        tensors = (dy,) if index is None else (dy, index)
        gradient: Tensor = (op or getattr(torch.ops.fastconv, name))(
            *tensors, sizes, last, *(() if self.is_adaptive else arguments)
        )
        return gradient


KINDS = {
    kind.name: kind
    for kind in (
        Kind("avg_pool", _MEAN, 6, False),
        Kind("max_pool", _MAXIMUM, 5, True, 'str index="i64", '),
        Kind("adaptive_avg_pool", _ADAPTIVE, 1, False),
        Kind("adaptive_max_pool", _ADAPTIVE, 1, True),
    )
}
#: The native ops for which neither derivative nor fake is registered, by the public ones.
_SHORT: dict[str, Any] = {}
SCHEMAS = {name: schema for kind in KINDS.values() for name, schema in kind.schemas.items()}


def channels_last_of(kind: Kind, x: Tensor) -> bool:
    """torch's memory format of every result: of its pools of three axes the fixed maximum alone
    keeps channels last.
    """
    keeps = x.dim() == 4 or kind.name == "max_pool"
    return keeps and strides_like_channels_last(x.shape, x.stride())


def _flat(index: Tensor, sizes: Sizes, arguments: tuple[Any, ...]) -> Tensor:
    """Indices of one byte, places in windows, as torch's: places in the image."""
    window, stride, padding, dilation = arguments[:4]
    stride = stride or window
    places, flat = index.long(), torch.zeros_like(index, dtype=torch.long)
    for axis in reversed(range(len(window))):
        outputs = torch.arange(index.shape[2 + axis], device=index.device) * stride[axis]
        outputs = outputs.reshape(-1, *(1,) * (len(window) - 1 - axis)) - padding[axis]
        inner = 1
        for size in sizes[3 + axis :]:
            inner *= size
        flat = flat + (outputs + places % window[axis] * dilation[axis]) * inner
        places = places // window[axis]
    return flat


def picked(t: Tensor, index: Tensor, arguments: tuple[Any, ...]) -> Tensor:
    """Of ``t``, as the input is, the elements at the indices."""
    flat = _flat(index, t.shape, arguments) if index.dtype == torch.uint8 else index
    found = t.flatten(2).gather(2, flat.flatten(2)).reshape(index.shape)
    return torch.empty_like(index, dtype=t.dtype).copy_(found) if index.dim() else found


def _of_torch(kind: Kind, x: Tensor, *given: Any) -> Any:
    """By torch's kernel; it has no indices of one byte."""
    arguments, words = given[: kind.count], given[kind.count :]
    if kind.word and words and words[0] == "u8":
        raise RuntimeError("fastconv: indices of one byte are the native kernels' alone")
    return kind.aten(x.dim() - 2)(x, *arguments)


def _backward_of_torch(kind: Kind, dy: Tensor, *given: Any) -> Tensor:
    index = given[:1] if kind.indexed else ()
    sizes, last, *rest = given[len(index) :]
    x = dy.new_empty_strided(sizes, dense_strides(sizes, last))
    arguments = () if kind.is_adaptive else rest[: kind.count]
    gradient: Tensor = kind.aten_backward(dy.dim() - 2)(dy, x, *arguments, *index)
    return gradient


def _fake(kind: Kind, x: Tensor, *given: Any) -> Any:
    arguments, words = given[: kind.count], given[kind.count :]
    like = kind.aten(x.dim() - 2)(torch.empty_like(x, device="meta"), *arguments)
    sizes = (like[0] if kind.indexed else like).shape
    strides = dense_strides(sizes, channels_last_of(kind, x))
    y = x.new_empty_strided(sizes, strides)
    if not kind.indexed:
        return y
    asked = words[0] if kind.word and words else "i64"
    if asked == "none":
        return y, x.new_empty(0, dtype=torch.int64)
    dtype = torch.uint8 if asked == "u8" else torch.int64
    return y, x.new_empty_strided(sizes, strides, dtype=dtype)


def _fake_backward(kind: Kind, dy: Tensor, *given: Any) -> Tensor:
    sizes, last = given[1:3] if kind.indexed else given[:2]
    return dy.new_empty_strided(sizes, dense_strides(sizes, last))


def _setup(kind: Kind, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x = inputs[0]
    ctx.arguments, ctx.given = inputs[1 : 1 + kind.count], len(inputs)
    ctx.sizes, ctx.last = x.shape, channels_last_of(kind, x)
    if kind.indexed:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])


def _derivative(kind: Kind, ctx: Any, dy: Tensor, *_: Any) -> tuple[Any, ...]:
    index = ctx.saved_tensors[0] if kind.indexed else None
    dx = kind.backward(dy, index, ctx.sizes, ctx.last, ctx.arguments)
    return (dx, *(None,) * (ctx.given - 1))


def _setup_backward(kind: Kind, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.given = len(inputs)
    rest = inputs[2 + kind.indexed + 1 :]
    ctx.arguments = (inputs[0].shape[2:],) if kind.is_adaptive else rest[: kind.count]
    if kind.indexed:
        ctx.save_for_backward(inputs[1])


def _derivative_backward(kind: Kind, ctx: Any, ddx: Tensor) -> tuple[Any, ...]:
    own = (None,) * (ctx.given - 1)
    if kind.indexed:
        return (picked(ddx, ctx.saved_tensors[0], ctx.arguments), *own)
    return (kind.forward(ddx, ctx.arguments), *own)


_library = torch.library.Library("fastconv", "FRAGMENT")


def _register(kind: Kind) -> None:
    of = functools.partial
    for name, function, fake, derivative, setup in (
        (kind.name, _of_torch, _fake, _derivative, _setup),
        (f"{kind.name}_backward", _backward_of_torch, _fake_backward, _derivative_backward,
         _setup_backward),
    ):  # fmt: skip
        torchs = of(function, kind)
        names = [name]
        if _native.lib is not None:
            _SHORT[name] = getattr(torch.ops.fastconv, f"_{name}").default
            names.append(f"_{name}")
        else:
            _library.define(name + SCHEMAS[name])
            _library.impl(name, torchs, "CPU")
        for each in names if not _native.has_cuda else ():
            _library.impl(each, torchs, "CUDA")
        register_fake(name, functools.wraps(fake)(of(fake, kind)))
        torch.library.register_autograd(
            f"fastconv::{name}", of(derivative, kind), setup_context=of(setup, kind)
        )
        op = getattr(torch.ops.fastconv, name).default
        decomposition_table[op] = torchs
        meta_table[op] = of(fake, kind)


for _kind in KINDS.values():
    _register(_kind)
