"""Argument forms of convolutions and pools that the torch-facing tests share."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch

import fastconv

#: (input, weight, keyword arguments): strided, padded, dilated, grouped, depthwise, pointwise, 1x1
#: image.
FORMS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 7, 6), (4, 3, 3, 3), {}),
    ((1, 4, 8, 8), (6, 2, 3, 2), {"stride": 2, "padding": (1, 2), "groups": 2}),
    ((2, 6, 5, 5), (6, 1, 3, 3), {"padding": "same", "groups": 6}),
    ((2, 4, 9, 9), (4, 4, 3, 3), {"dilation": 2, "padding": [2, 2]}),
    ((3, 5, 4, 4), (7, 5, 1, 1), {}),
    ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    ((1, 8, 1, 1), (4, 8, 1, 1), {"stride": (2,)}),
    ((2, 2, 5, 4), (3, 2, 2, 2), {"padding": "same"}),
    ((2, 2, 5, 4), (3, 2, 2, 2), {"padding": "valid", "stride": (1, 2)}),
    ((3, 6, 5), (2, 3, 3, 3), {"padding": 1}),
]


def operands(
    form: tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]],
    dtype: torch.dtype = torch.float64,
    channels_last: str = "",
    requires_grad: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Input, weight, bias and keyword arguments; `channels_last` holds "x" and "w" for those that
    are.
    """
    generator = torch.Generator().manual_seed(0)
    sizes, weights, kwargs = form
    x = torch.randn(sizes, generator=generator, dtype=torch.float64).to(dtype)
    w = torch.randn(weights, generator=generator, dtype=torch.float64).to(dtype)
    b = torch.randn(weights[0], generator=generator, dtype=torch.float64).to(dtype)
    if "x" in channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    if "w" in channels_last:
        w = w.contiguous(memory_format=torch.channels_last)
    for t in (x, w, b):
        t.requires_grad_(requires_grad)
    return x, w, b, kwargs


#: Whether the right sums were formed, whichever kernel formed them; what each kernel's sums are
#: worth is bounded by the kernels' own tests.
BOUNDS = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 0.15}


def assert_close(out: torch.Tensor, expected: torch.Tensor) -> None:
    bound = BOUNDS.get(expected.dtype, 0)
    torch.testing.assert_close(out, expected, rtol=bound, atol=bound)


def gradients(out: torch.Tensor, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The gradients of the sum of `out`."""
    return torch.autograd.grad(out, inputs, torch.ones_like(out))


def of_torch(name: str, x: torch.Tensor, *given: Any, **arguments: Any) -> Any:
    """torch's own; in float32 where it has no such kernel, as for means of three axes in bfloat16."""
    try:
        return getattr(torch.nn.functional, name)(x, *given, **arguments)
    except (RuntimeError, NotImplementedError) as error:
        if "not implemented for" not in str(error):
            raise
        return getattr(torch.nn.functional, name)(x.float(), *given, **arguments).to(x.dtype)


#: Pools: the input's sizes, the function of `torch.nn.functional`, and its arguments.
POOLS = [
    ((1, 3, 4, 5, 6), "avg_pool3d", ((2, 3, 2),), {}),
    ((1, 3, 4, 5, 6), "max_pool3d", (2, 2, 1), {}),
    ((2, 5, 9, 8), "max_pool2d", (3, 2, 1), {"return_indices": True}),
    ((2, 5, 9, 8), "max_pool2d", (2, 1, 0, 2), {}),
    ((2, 5, 9, 8), "avg_pool2d", (3, 2, 1), {"ceil_mode": True, "count_include_pad": False}),
    ((2, 5, 9, 8), "avg_pool2d", (3, 1, 1), {"divisor_override": 4}),
    ((2, 5, 9, 8), "adaptive_avg_pool2d", ((4, 3),), {}),
    ((2, 5, 9, 8), "adaptive_max_pool2d", ((4, 3),), {"return_indices": True}),
]


def assert_same_pool(
    module: Any, form: tuple[Any, ...], layout: str, dtype: torch.dtype
) -> list[str | None]:
    """That `module`'s pool, its indices and its gradient are those of torch with nothing of fastconv
    under it, strides too; the kernels that ran.
    """
    sizes, name, arguments, options = form
    x = torch.randn(sizes, generator=torch.Generator().manual_seed(0)).to(dtype)
    if layout == "nhwc":
        last = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
        x = x.contiguous(memory_format=last)
    x.requires_grad_()
    found = []
    for where in (torch.nn.functional, module):
        with nullcontext() if found else fastconv.enabled(False):
            made = getattr(where, name)(x, *arguments, **options)
            y, *rest = made if isinstance(made, tuple) else (made,)
            found.append([y, *rest, *gradients(y, (x,))])
    for want, have in zip(*found, strict=True):
        assert_close(have, want)
        assert have.stride() == want.stride()
    return [fastconv.last_kernel(direction, "pool") for direction in ("fprop", "dgrad")]
