"""``fastconv.explain(model, x)``: which kernel runs each layer of a model, and why."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from fastconv import families, policy, registry
from fastconv.enable import can_enable, enabled
from fastconv.nn import FAMILIES
from fastconv.policy import last_kernel, note_kernel
from fastconv.problem_text import Problem


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer of a model as it was called.

    Attributes:
        kernel: the kernel that ran; None where it was torch's own.
        others: (kernel, reason) of each row before the one that ran, or of all where it was torch's.
    """

    name: str
    problem: Problem | None
    kernel: str | None
    others: tuple[tuple[str, str], ...]

    @property
    def why(self) -> str:
        if self.problem is None:
            return (
                "complex and integer tensors stay with torch; images without a batch axis and norms of "
                "windows are not explained"
            )
        if self.kernel is None:
            return "no kernel is known to beat torch's here"
        return (
            "first in the table that takes it"
            if not self.others
            else f"{len(self.others)} before it do not"
        )


class Explanation(tuple[Layer, ...]):
    """The layers in the order of their calls. As text: a line each, and the reasons of the rows
    passed over; those that hold for every problem, the machine's, once at the end.
    """

    def __str__(self) -> str:
        if not self:
            return (
                "no layer is one that fastconv computes: convolutions, pools and unpools of torch.nn "
                "and fastconv.nn"
            )
        machines = {
            row.name: row.reason
            for device in registry.DEVICES
            for row in registry.kernels(device=device)
        }
        absent: dict[str, set[str]] = {}
        lines = []
        for layer in self:
            lines.append(f"{layer.name or 'model'}: {layer.problem or '-'}")
            lines.append(f"  runs {layer.kernel or 'torch'}: {layer.why}")
            for kernel, reason in layer.others:
                if machines.get(kernel) == reason:
                    absent.setdefault(reason, set()).add(kernel)
                else:
                    lines.append(f"    not {kernel}: {reason}")
        for reason, kernels in absent.items():
            lines.append(
                f"not on this machine, {len(kernels)} of the kernels before those that ran "
                f"(fastconv.info(rows=True) lists them): {reason}"
            )
        return "\n".join(lines)


def _explain_layer(
    name: str,
    problem: Problem | None,
    direction: str,
    precision: str,
    device: registry.Device,
) -> Layer:
    """Of the call that this thread made just now."""
    if problem is None:
        return Layer(name, None, None, ())
    kernel = last_kernel(direction, families.of(problem).name)
    others = []
    for row in registry.kernels(problem, direction, precision, device):
        if row.name == kernel:
            break
        others.append((row.name, row.auto_reason or "another one is preferred"))
    return Layer(name, problem, kernel, tuple(others))


def _watch(model: nn.Module, level: str, found: list[Layer]) -> None:
    """Has every layer of the families tell what it ran."""

    def watch(name: str, module: nn.Module, family: str, kind: Any) -> None:
        direction: str = kind.direction_of(module)

        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            note_kernel(direction, None, family)

        def after(module: nn.Module, args: Any, kwargs: Any, y: torch.Tensor) -> None:
            x = args[0] if args else kwargs["input"]
            device: registry.Device = "cuda" if x.is_cuda else "cpu"
            problem = kind.problem_of(module, x, y)
            found.append(_explain_layer(name, problem, direction, level, device))

        module.register_forward_pre_hook(before, with_kwargs=True)
        module.register_forward_hook(after, prepend=True, with_kwargs=True)

    for name, module in model.named_modules():
        for family, kinds in FAMILIES.items():
            for kind in kinds:
                if isinstance(module, kind.LAYERS):
                    watch(name, module, family, kind)


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
    """Runs ``model`` once and tells for each layer the problem, the kernel that ran, and why.

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
        TypeError: for a model that is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {model!r}; it must be a torch.nn.Module")
    level = precision or policy.get_precision()
    found: list[Layer] = []
    with _unchanged(model), policy.precision(level), torch.no_grad():
        _watch(model, level, found)
        with enabled() if can_enable() else contextlib.nullcontext():
            model(*inputs, **kwargs)
    return Explanation(found)
