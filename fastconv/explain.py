"""``fastconv.explain(model, x)``: which kernel runs each convolution of a model, and why."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from fastconv import policy, registry, tensors
from fastconv.enable import can_enable, enabled
from fastconv.ops.formulas import Geometry
from fastconv.ops.layout import result_is_channels_last
from fastconv.policy import last_kernel, note_kernel
from fastconv.problem import ConvProblem, Direction
from fastconv.tensors import DTYPES, layout_of

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclasses.dataclass(frozen=True)
class Layer:
    """One convolution of a model as it was called.

    Attributes:
        kernel: the kernel that ran; None where it was torch's own.
        others: (kernel, reason) of each row before the one that ran, or of all where it was torch's.
    """

    name: str
    problem: ConvProblem | None
    kernel: str | None
    others: tuple[tuple[str, str], ...]

    @property
    def why(self) -> str:
        if self.problem is None:
            return "complex and integer tensors stay with torch"
        if self.kernel is None:
            return "no kernel is known to beat torch's here"
        return (
            "first in the table that takes it"
            if not self.others
            else f"{len(self.others)} before it do not"
        )


class Explanation(tuple[Layer, ...]):
    """The layers in the order of their calls. As text: a line each, and the reasons of the rows
    passed over.
    """

    def __str__(self) -> str:
        lines = []
        for layer in self:
            lines.append(f"{layer.name or 'model'}: {layer.problem or '-'}")
            lines.append(f"  runs {layer.kernel or 'torch'}: {layer.why}")
            lines += [f"    not {kernel}: {reason}" for kernel, reason in layer.others]
        return "\n".join(lines)


def _layouts(layer: Any, x: torch.Tensor, y: torch.Tensor, strides: Any) -> tuple[str, str]:
    """How input and output lie: the output by torch's rule, and the input, where it reads both ways
    (one channel, one pixel), as the output does.
    """
    steps, gaps, groups = strides
    last = y.dim() > 3 and result_is_channels_last(
        x.shape, x.stride(), layer.weight, steps, gaps, groups
    )
    out = "nhwc" if last else "nchw"
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    either = x.dim() in formats and x.is_contiguous(memory_format=formats[x.dim()])
    return ("nhwc" if either and last else layout_of(x)), out


def problem_of(layer: Any, x: torch.Tensor, y: torch.Tensor) -> ConvProblem | None:
    """The problem of a convolution module called with ``x`` [N,C,(D,(H,))W], giving ``y``, plain or
    transposed; None for other dtypes.
    """
    if x.dtype not in DTYPES:
        return None
    axes = len(layer.kernel_size)
    if x.dim() == axes + 1:
        x, y = x[None], y[None]
    stride, dilation = (_numbers(v, axes) for v in (layer.stride, layer.dilation))
    padding, extents = layer.padding, list(x.shape)
    if layer.padding_mode != "zeros":  # the module pads beforehand
        amounts = layer._reversed_padding_repeated_twice
        for i in range(axes):
            extents[-1 - i] += amounts[2 * i] + amounts[2 * i + 1]
        padding = 0
    elif padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, layer.kernel_size, strict=True)]
        extents[2:] = [e + t % 2 for e, t in zip(extents[2:], total, strict=True)]
        padding = [t // 2 for t in total]
    elif padding == "valid":
        padding = 0
    geometry = Geometry(stride, _numbers(padding, axes), dilation, layer.groups)
    source, result = _layouts(layer, x, y, (stride, dilation, layer.groups))
    if layer.transposed:
        sides, layouts = (tuple(y.shape), tuple(x.shape)), (result, source)
    else:
        sides, layouts = (tuple(extents), tuple(y.shape)), (source, result)
    taps = (*layer.weight.shape[:2], *layer.kernel_size)
    return tensors.problem_of(sides[0], taps, sides[1], geometry, x.dtype, layouts)


def _numbers(value: Any, axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else tuple(value) * (axes // len(value))


def _explain_layer(
    name: str,
    problem: ConvProblem | None,
    direction: Direction,
    precision: str,
    device: registry.Device,
) -> Layer:
    """Of the call that this thread made just now."""
    if problem is None:
        return Layer(name, None, None, ())
    kernel = last_kernel(direction)
    others = []
    for row in registry.kernels(problem, direction, precision, device):
        if row.name == kernel:
            break
        others.append((row.name, row.auto_reason or "another one is preferred"))
    return Layer(name, problem, kernel, tuple(others))


def _watch(model: nn.Module, level: str, found: list[Layer]) -> None:
    """Has every convolution of the model tell what it ran."""

    def watch(name: str, module: nn.Module) -> None:
        direction: Direction = "dgrad" if isinstance(module, _TRANSPOSED) else "fprop"

        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            note_kernel(direction, None)

        def after(module: nn.Module, args: Any, kwargs: Any, y: torch.Tensor) -> None:
            x = args[0] if args else kwargs["input"]
            device: registry.Device = "cuda" if x.is_cuda else "cpu"
            problem = problem_of(module, x, y)
            found.append(_explain_layer(name, problem, direction, level, device))

        module.register_forward_pre_hook(before, with_kwargs=True)
        module.register_forward_hook(after, prepend=True, with_kwargs=True)

    for name, module in model.named_modules():
        if isinstance(module, (*_CONVS, *_TRANSPOSED)):
            watch(name, module)


def _twin(tensor: torch.Tensor, twins: dict[int, torch.Tensor]) -> torch.Tensor:
    """A copy, the same for the same tensor."""
    known = twins.get(id(tensor))
    if known is None:
        if nn.parameter.is_lazy(tensor):
            known = copy.deepcopy(tensor)
        else:
            known = tensor.detach().clone()
            if isinstance(tensor, nn.Parameter):
                known = nn.Parameter(known, tensor.requires_grad)
        twins[id(tensor)] = known
    return known


@contextlib.contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """A scope in which the model's modules hold copies of their parameters and buffers; at its end
    they hold what they held, hooks and other attributes included, and random numbers go on as before.
    """
    twins: dict[int, torch.Tensor] = {}
    modules = list(model.modules())
    classes = [type(module) for module in modules]
    attributes = [dict(module.__dict__) for module in modules]
    contents = [
        [(value, value.copy()) for value in held.values() if isinstance(value, (dict, list, set))]
        for held in attributes
    ]
    gpus = sorted({p.device.index for p in model.parameters() if p.is_cuda})
    try:
        for module in modules:
            for holder in (
                module.__dict__,
                module.__dict__["_parameters"],
                module.__dict__["_buffers"],
            ):
                for name, value in holder.items():
                    if isinstance(value, torch.Tensor):
                        holder[name] = _twin(value, twins)
            module.__dict__.pop("_pack_cache", None)
        with torch.random.fork_rng(gpus):
            yield
    finally:
        for module, kind, held, values in zip(modules, classes, attributes, contents, strict=True):
            module.__class__ = kind
            module.__dict__.clear()
            module.__dict__.update(held)
            for value, content in values:
                value.clear()
                value.extend(content) if isinstance(value, list) else value.update(content)


def explain(
    model: nn.Module, *inputs: Any, precision: str | None = None, **kwargs: Any
) -> Explanation:
    """Runs ``model`` once and tells for each convolution the problem, the kernel that ran, and why.

    A layer of ``fastconv.nn`` is called as it is, a plain ``torch.nn`` layer as under
    ``fastconv.enable()``. Both leave to torch what no kernel is known to win. Nothing of the model
    changes: it runs, in the mode it is in, on copies of its parameters and buffers.

    Args:
        inputs: what the model is called with, e.g. ``torch.randn(1, 3, 224, 224)``; also as
        keywords.
        precision: how far ``auto`` may go: ``"exact"``, ``"high"`` or ``"fast"``; None is what
            ``fastconv.get_precision()`` says.

    Raises:
        ValueError: for an unknown precision.
    """
    level = precision or policy.get_precision()
    found: list[Layer] = []
    with _unchanged(model), policy.precision(level), torch.no_grad():
        _watch(model, level, found)
        with enabled() if can_enable() else contextlib.nullcontext():
            model(*inputs, **kwargs)
    return Explanation(found)
