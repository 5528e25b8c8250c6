"""Average pooling: the ops' fakes and registered autograd, and the function that every caller takes.

Letters: input [N, C, H, W] or [C, H, W], window R x S, output [N, C, P, Q]. Pooling is linear: the
derivative of each direction is the other, and a batch of inputs is a larger batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._decomp import decomposition_table, meta_table
from torch.autograd import Function

from fastconv import _native
from fastconv.ops.fake import register_fake
from fastconv.ops.layout import dense_strides, strides_like_channels_last
from fastconv.ops.watch import FUNCTION, OP, SHORT, way_of
from fastconv.tensors import is_int

__all__ = ["avg_pool2d"]

Ints = int | Sequence[int]


class Pooling(NamedTuple):
    """The arguments after the input, as `torch.nn.functional.avg_pool2d` has them."""

    kernel_size: Any
    stride: Any = None
    padding: Any = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    def listed(self) -> Pooling:
        """As ops take it: numbers in lists, no stride as an empty one.

        Raises:
            TypeError: for what torch takes for no number, or list of numbers, of a window.
        """

        def numbers(value: Any) -> list[Any]:
            given = list(value) if isinstance(value, (tuple, list)) else [value]
            if not all(map(is_int, given)):
                raise TypeError(f"not numbers of a window: {value!r}")
            return given

        stride = [] if self.stride is None else numbers(self.stride)
        return self._replace(
            kernel_size=numbers(self.kernel_size), stride=stride, padding=numbers(self.padding)
        )


_OPTIONS = (
    "SymInt[2] kernel_size, SymInt[2] stride=[], SymInt[2] padding=0, bool ceil_mode=False, "
    'bool count_include_pad=True, SymInt? divisor_override=None, str kernel_name=""'
)
SCHEMAS = {
    "avg_pool2d": f"(Tensor input, {_OPTIONS}) -> Tensor",
    "avg_pool2d_backward": f"(Tensor grad, Tensor input, {_OPTIONS}) -> Tensor",
}
_library = torch.library.Library("fastconv", "FRAGMENT")


def _of_torch(x: Tensor, *arguments: Any) -> Tensor:
    return torch.ops.aten.avg_pool2d(x, *arguments[:6])  # type: ignore[no-any-return]


def _backward_of_torch(dy: Tensor, x: Tensor, *arguments: Any) -> Tensor:
    kernel_size, stride, *rest = Pooling(*arguments[:6])
    return torch.ops.aten.avg_pool2d_backward(dy, x, kernel_size, stride, *rest)  # type: ignore[no-any-return]


_TORCHS: dict[str, Callable[..., Tensor]] = {
    "avg_pool2d": _of_torch,
    "avg_pool2d_backward": _backward_of_torch,
}
for _name, _function in _TORCHS.items():
    if _native.lib is None:
        _library.define(_name + SCHEMAS[_name])
        _library.impl(_name, _function, "CPU")
    _library.impl(_name, _function, "CUDA")  # there are no kernels of ours

_op: Any = torch.ops.fastconv.avg_pool2d
_op_backward: Any = torch.ops.fastconv.avg_pool2d_backward


def _fake(x: Tensor, *arguments: Any) -> Tensor:
    like = torch.ops.aten.avg_pool2d(torch.empty_like(x, device="meta"), *arguments[:6])
    last = strides_like_channels_last(x.shape, x.stride())
    return x.new_empty_strided(like.shape, dense_strides(like.shape, last))


def _fake_backward(dy: Tensor, x: Tensor, *_: Any) -> Tensor:
    last = strides_like_channels_last(x.shape, x.stride())
    return x.new_empty_strided(x.shape, dense_strides(x.shape, last))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.pooling = inputs[1:7]
    ctx.save_for_backward(inputs[0])


def _derivative(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    return (_op_backward(dy, *ctx.saved_tensors, *ctx.pooling), *(None,) * 7)


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.pooling = inputs[2:8]


def _derivative_backward(ctx: Any, ddx: Tensor) -> tuple[Tensor | None, ...]:
    return (_op(ddx, *ctx.pooling), *(None,) * 8)


def _register() -> None:
    library = torch.library
    register_fake("avg_pool2d", _fake)
    register_fake("avg_pool2d_backward", _fake_backward)
    library.register_autograd("fastconv::avg_pool2d", _derivative, setup_context=_setup)
    library.register_autograd(
        "fastconv::avg_pool2d_backward", _derivative_backward, setup_context=_setup_backward
    )
    decomposition_table[_op.default] = _of_torch
    meta_table[_op.default] = _fake


_register()


class _AvgPool(Function):
    @staticmethod
    def forward(x: Tensor, pooling: Pooling) -> Tensor:
        return _op(x, *pooling)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.pooling = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        return _apply_backward(dy, *ctx.saved_tensors, ctx.pooling), None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, *_: None) -> Tensor:
        return _apply(dx, ctx.pooling)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, pooling: Pooling
    ) -> tuple[Tensor, int]:
        assert in_dims[0] is not None
        folded = _apply(x.movedim(in_dims[0], 0).flatten(0, 1), pooling)
        return folded.unflatten(0, (info.batch_size, -1)), 0


class _AvgPoolBackward(Function):
    @staticmethod
    def forward(dy: Tensor, x: Tensor, pooling: Pooling) -> Tensor:
        return _op_backward(dy, x, *pooling)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, x, ctx.pooling = inputs
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor) -> tuple[Tensor | None, ...]:
        return _apply(ddx, ctx.pooling), None, None

    @staticmethod
    def jvp(ctx: Any, dy: Tensor | None, *_: Any) -> Tensor:
        (x,) = ctx.saved_tensors
        if dy is None:
            return torch.zeros_like(x)
        return _apply_backward(dy, x, ctx.pooling)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], dy: Tensor, x: Tensor, pooling: Pooling
    ) -> tuple[Tensor, int]:
        def folded(t: Tensor, dim: int | None) -> Tensor:
            t = t.expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)
            return t.flatten(0, 1)

        dx = _apply_backward(folded(dy, in_dims[0]), folded(x, in_dims[1]), pooling)
        return dx.unflatten(0, (info.batch_size, -1)), 0


_apply: Callable[..., Tensor] = _AvgPool.apply
_apply_backward: Callable[..., Tensor] = _AvgPoolBackward.apply


def avg_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """As `torch.nn.functional.avg_pool2d`: input [N, C, H, W] or [C, H, W], window `kernel_size`.

    Kernels exist for float32 on the CPU; what else torch takes, torch computes. Raises what torch
    raises for arguments that do not fit.
    """
    pooling = Pooling(kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    way = way_of(input, input)
    if (
        way in (OP, FUNCTION, SHORT)
        and input.dim() == 4
        and input.layout == torch.strided
        and (_native.serves(input) or way == OP)
    ):
        try:
            listed = pooling.listed()
            recorded = torch.is_grad_enabled() and input.requires_grad
            if way == OP or (way == SHORT and not recorded):
                return _op(input, *listed)  # type: ignore[no-any-return]
            return _apply(input, listed)
        except (RuntimeError, TypeError) as error:
            if torch.compiler.is_compiling() or str(error).startswith("fastconv: "):
                raise
    # torch's own call raises torch's own error, or knows what we do not.
    return F.avg_pool2d(input, *pooling)
