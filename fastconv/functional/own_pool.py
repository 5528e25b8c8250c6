"""Pools of the literature that torch does not have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from fastconv import _native
from fastconv.functional.own_pool_of_torch import stochastic_pool2d_of_torch, sub_sample2d_of_torch
from fastconv.functional.pool import avg_pool2d
from fastconv.ops.own_pool import outputs, sample, sums_type
from fastconv.ops.watch import FUNCTION, OP, SHORT, TORCH, way_of
from fastconv.tensors import is_int

__all__ = ["check_windows", "stochastic_pool2d", "sub_sample2d"]

Ints = int | Sequence[int]
#: Of TorchScript's tracer, which `torch.export` is not.
_is_tracing = torch._C._is_tracing
_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def _pair(name: str, value: Any, least: int) -> list[int]:
    """A number for both axes or one each.

    Raises:
        TypeError: for what is neither.
        ValueError: for a number below the least.
    """
    given = list(value) if isinstance(value, (tuple, list)) else [value]
    if len(given) not in (1, 2) or not all(map(is_int, given)):
        raise TypeError(f"{name} is {value!r}; it must be an integer or two")
    if min(given) < least:
        raise ValueError(f"{name} is {value!r}; it must be at least {least}")
    return given * (2 // len(given))


def check_windows(
    kernel_size: Any, stride: Any = None, padding: Any = 0
) -> tuple[list[int], list[int], list[int]]:
    """Window, stride and padding of both axes.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.
    """
    window = _pair("kernel_size", kernel_size, 1)
    steps = window if stride is None else _pair("stride", stride, 1)
    pads = _pair("padding", padding, 0)
    if any(2 * pad > taps for taps, pad in zip(window, pads, strict=True)):
        raise ValueError(
            f"padding is {padding!r}; it must be at most half of kernel_size {kernel_size!r}"
        )
    return window, steps, pads


def _windows(
    input: Any, kernel_size: Any, stride: Any, padding: Any, traced: bool
) -> tuple[list[int], list[int], list[int]]:
    """As `check_windows`, for the input [N, C, H, W] or [C, H, W]. The extents of an
    input that is traced are not looked at: torch's functions check them.
    """
    if not isinstance(input, Tensor):
        raise TypeError(f"input is a {type(input).__name__}; it must be a tensor")
    if input.dtype not in _FLOATS:
        raise TypeError(f"input has dtype {input.dtype}; it must be a floating one")
    if input.dim() not in (3, 4):
        raise ValueError(
            f"input has sizes {tuple(input.shape)}; it must be [N, C, H, W] or [C, H, W]"
        )
    window, steps, pads = check_windows(kernel_size, stride, padding)
    if traced:
        return window, steps, pads
    for n, taps, pad in zip(input.shape[-2:], window, pads, strict=True):
        if n < 1 or taps > n + 2 * pad:
            raise ValueError(
                f"kernel_size is {kernel_size!r}; input with sizes {tuple(input.shape)} is smaller"
            )
    return window, steps, pads


def _check_activations(input: Tensor) -> None:
    """Raises ValueError naming a value by which nothing can be drawn."""
    if not input.numel():
        return
    for value in torch.stack(torch.aminmax(input.detach())).tolist():
        if not 0 <= value < math.inf:
            raise ValueError(
                f"input has {value}; stochastic pooling draws by activations that are finite and at "
                "least 0, as those behind a ReLU are"
            )


def stochastic_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    training: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Stochastic pooling (Zeiler and Fergus 2013, arXiv:1301.3557) of activations.

    In training each window gives one of its inputs, drawn with the probability ``a_i / sum(a)``, each
    window for itself; the gradient goes to the input that was drawn. Else it gives the expectation
    ``sum(a**2) / sum(a)``. A window of zeros gives 0; padding is never drawn.

    Args:
        input: [N, C, H, W] or [C, H, W], float32, float64, bfloat16 or float16; at least 0. What a
            compiler or a transform of `torch.func` hides is not looked at: there the negative count as
            0, and a window whose sum is not finite gives NaN.
        kernel_size, stride, padding: as of `torch.nn.functional.max_pool2d`; padding is at most half
            of kernel_size.
        training: whether to draw.
        generator: of `torch.rand`, which gives one number an output; None for torch's own.

    Returns:
        [N, C, P, Q] or [C, P, Q], in the input's memory format.

    Raises:
        ValueError, TypeError: naming the argument that does not fit, and an input's value below 0, NaN
        or infinite.
    """
    way = way_of(input, input)
    if way == TORCH and has_torch_function((input,)):
        y: Tensor = handle_torch_function(
            stochastic_pool2d, (input,), input, kernel_size, stride, padding, training, generator
        )
        return y
    traced = way == TORCH and _is_tracing()
    window, steps, pads = _windows(input, kernel_size, stride, padding, traced)
    if not isinstance(training, bool):
        raise TypeError(f"training is {training!r}; it must be True or False")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator is {generator!r}; it must be a torch.Generator or None")
    if traced and generator is None:
        return stochastic_pool2d_of_torch(input, window, steps, pads, training)
    if way == SHORT and not input.is_meta:
        _check_activations(input)
    if input.dim() == 3:
        return stochastic_pool2d(
            input.unsqueeze(0), window, steps, pads, training, generator
        ).squeeze(0)
    # Sums, and numbers to draw by, of 16 bits would be too coarse.
    x = input.to(sums_type(input.dtype))
    if not training:
        return _expectation(x, window, steps, pads).to(input.dtype)
    sizes = outputs(x.shape, window, steps, pads)
    # Of a generator, be it None, torch.compile takes no sizes that are not known yet.
    given: dict[str, Any] = {} if generator is None else {"generator": generator}
    uniform = torch.rand(sizes, device=x.device, dtype=x.dtype, **given)
    byte = math.prod(window) <= 255 and _native.serves(x)
    drawn = (x, uniform, window, steps, pads, "u8" if byte else "i64")
    sampled = torch.ops.fastconv.stochastic_pool(*drawn)[0] if way == OP else sample(*drawn)
    return sampled.to(input.dtype)


def _expectation(x: Tensor, window: list[int], stride: list[int], padding: list[int]) -> Tensor:
    sums, squares = (avg_pool2d(t, window, stride, padding, divisor_override=1) for t in (x, x * x))
    nothing = sums == 0
    return torch.where(nothing, 0.0, squares / torch.where(nothing, 1.0, sums))


def _check_channels(name: str, t: Any, input: Tensor, traced: bool) -> None:
    """Raises TypeError, ValueError for what is not one number a channel of the input."""
    kinds = dict.fromkeys((input.dtype, sums_type(input.dtype)))
    needed = f"an input of {input.dtype} needs a tensor of {' or '.join(map(str, kinds))}"
    if not isinstance(t, Tensor):
        raise TypeError(f"{name} is {t!r}; {needed}")
    if t.dtype not in kinds:
        raise TypeError(f"{name} has dtype {t.dtype}; {needed}")
    if not traced and tuple(t.shape) != (input.shape[-3],):
        raise ValueError(
            f"{name} has sizes {tuple(t.shape)}; an input with sizes {tuple(input.shape)} needs "
            f"{(input.shape[-3],)}"
        )


def sub_sample2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
) -> Tensor:
    """The trainable sub-sampling of LeNet (LeCun et al. 1998, "Gradient-based learning applied to
    document recognition"), without its activation: each window's sum, times its channel's weight,
    plus its channel's bias.

    Args:
        input: [N, C, H, W] or [C, H, W], float32, float64, bfloat16 or float16.
        weight, bias: [C], of the input's dtype or the type of its sums (float32, or float64).
        kernel_size, stride: as of `torch.nn.functional.avg_pool2d`.

    Returns:
        [N, C, P, Q] or [C, P, Q], in the input's memory format and dtype.

    Raises:
        ValueError, TypeError: naming the argument that does not fit.
    """
    way = way_of(input, weight, bias)
    if way == TORCH and has_torch_function((input, weight, bias)):
        y: Tensor = handle_torch_function(
            sub_sample2d, (input, weight, bias), input, weight, bias, kernel_size, stride
        )
        return y
    traced = way == TORCH and _is_tracing()
    window, steps, _ = _windows(input, kernel_size, stride, 0, traced)
    for name, t in (("weight", weight), ("bias", bias)):
        _check_channels(name, t, input, traced)
    if traced:
        return sub_sample2d_of_torch(input, weight, bias, window, steps)
    if input.dim() == 3:
        return sub_sample2d(input.unsqueeze(0), weight, bias, window, steps).squeeze(0)
    if way in (OP, SHORT) and input.layout == torch.strided:
        wide = sums_type(input.dtype)
        scale, shift = (t.to(wide).contiguous() for t in (weight, bias))
        y = torch.ops.fastconv.sub_sample(input, scale, shift, window, steps)
        return y
    of: Any = avg_pool2d if way == FUNCTION else torch.nn.functional.avg_pool2d
    sums = of(input, window, steps, divisor_override=1)
    y = (sums * weight.view(-1, 1, 1) + bias.view(-1, 1, 1)).to(input.dtype)
    return y
