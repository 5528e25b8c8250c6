"""Who watches a call: the one question by which each call of fastconv's finds its way."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.autograd import forward_ad as _forward_ad
from torch.nn import Parameter
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from fastconv import _native, _triton

__all__ = ["FUNCTION", "OP", "SHORT", "TORCH", "for_compiler", "way_of"]

#: torch's own function: a tracer of TorchScript, a Proxy of FX, a subclass of Tensor and a mode of
#: `__torch_function__` know `F.conv2d` and nothing of ours.
TORCH = 0
#: The public op, whose derivative is registered: compilers and dispatch modes see it as one node.
OP = 1
#: The `autograd.Function` with its jvp and vmap: `torch.func` and forward mode.
FUNCTION = 2
#: The short op: nothing but reverse mode has to know of the call.
SHORT = 3

# Both halves of `torch.compiler.is_compiling`, for a third of its price: dynamo knows the first by
# name and takes it for true.
_is_dynamo_compiling = torch.compiler.is_dynamo_compiling
_compiler = torch.compiler
_is_tracing = torch._C._is_tracing
_function_modes = torch._C._len_torch_function_stack
_dispatch_modes = torch._C._len_torch_dispatch_stack
_functorch_active = torch._C._are_functorch_transforms_active


def _modes_set_devices_alone() -> bool:
    """Whether what `torch.set_default_device` leaves behind is all there is: no mode for us."""
    return all(isinstance(mode, DeviceContext) for mode in _get_current_function_mode_stack())


def _way_of_other_types(input: object, weight: object, bias: object) -> int:
    tensors = (input, weight) if bias is None else (input, weight, bias)
    known = (Tensor, Parameter, FakeTensor, FunctionalTensor)
    return OP if all(type(t) in known for t in tensors) else TORCH


def way_of(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> int:
    """TORCH, OP, FUNCTION or SHORT, for a call on these operands now.

    What is no tensor at all goes TORCH's way, to torch's error.
    """
    if _is_dynamo_compiling() or _compiler._is_compiling_flag:
        return OP
    kind = type(input)
    if kind is not Tensor and kind is not Parameter:
        return _way_of_other_types(input, weight, bias)
    kind = type(weight)
    if kind is not Parameter and kind is not Tensor:
        return _way_of_other_types(input, weight, bias)
    if bias is not None:
        kind = type(bias)
        if kind is not Parameter and kind is not Tensor:
            return _way_of_other_types(input, weight, bias)
    if _is_tracing() or (_function_modes() and not _modes_set_devices_alone()):
        return TORCH
    if _functorch_active() or _forward_ad._current_level >= 0:
        return FUNCTION
    return OP if _dispatch_modes() else SHORT


def for_compiler(x: Tensor) -> bool:
    """Whether a graph is being made for tensors that only Triton's kernels take."""
    return (
        torch.compiler.is_compiling()
        and not _native.serves(x)
        and x.device.type in _triton.device_types()
    )
