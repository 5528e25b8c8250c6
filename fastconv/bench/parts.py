"""Every family's part in the bench: what its record says is enough; a module of the family's name in
this folder says what layers and engines of its own there are beyond that.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any

import torch

import fastconv
from fastconv import families
from fastconv.bench.part import Operands, Part, Peer, Prepared, Regime, Task
from fastconv.bench.peers import OURS, WITH_GRADIENTS
from fastconv.families.record import Family
from fastconv.tensors import drawn, in_layout
from fastconv.testing import tolerance

__all__ = ["enabled_inference", "field_of", "of_family", "part_of", "parts"]


@functools.cache
def parts() -> tuple[Part, ...]:
    """Every family's part in the bench."""
    found = []
    for family in families.all():
        own = f"fastconv.bench.{family.name}"
        if importlib.util.find_spec(own) is not None:
            found.append(importlib.import_module(own).PART)
        else:
            found.append(of_family(family))
    return tuple(found)


def part_of(problem: Any) -> Part:
    """The part of the family whose problem it is."""
    return next(part for part in parts() if type(problem) is part.problem)


@contextlib.contextmanager
def enabled_inference() -> Iterator[None]:
    """Kernels of ours under torch's functions, without gradients."""
    with torch.inference_mode(), fastconv.enabled():
        yield


def _operands(family: Family, problem: Any, seed: int = 0) -> Operands:
    plain = {
        name: in_layout(t, "nchw") for name, t in drawn(problem, family.drawn(), seed=seed).items()
    }
    return Operands(problem, plain)


def _torch_call(family: Family, o: Operands, task: Task) -> Prepared:
    """A task by PyTorch's own functions; under ``fastconv.enabled()`` these reach our kernels."""
    if task != "step":
        return Prepared(family.torch_call(o.problem, task, o.tensors))
    read = family.inputs("fprop", o.problem)
    names = [each.name for each in read if each.kind != "index"]
    leaves = [o[name].detach().requires_grad_() for name in names]
    tensors = {**o.tensors, **dict(zip(names, leaves, strict=True))}
    forward, dy = family.torch_call(o.problem, "fprop", tensors), o["dy"]
    gradients = torch.autograd.grad

    def step() -> Any:
        y = forward()
        return (y, *gradients(y, leaves, dy))

    return Prepared(step)


class _Forward(torch.nn.Module):
    """torch's forward call as a module of its input."""

    def __init__(self, family: Family, o: Operands) -> None:
        super().__init__()
        self._family, self._problem, self._rest = family, o.problem, o.tensors

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._family.torch_call(self._problem, "fprop", {**self._rest, "x": x})()


def _module(family: Family, o: Operands) -> tuple[torch.nn.Module, torch.Tensor]:
    last = o.to(torch.channels_last)
    return _Forward(family, last).eval(), last["x"]


def field_of(family: Family, task: Task, regime: Regime) -> list[Peer]:
    """Ours is torch's function enabled: a family without weights has nothing to lay out once."""
    formats = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}

    def made(name: str) -> Any:
        return lambda o, task: _torch_call(family, o.to(formats[name]), task)

    inference = task == "fprop"
    ours = Peer(OURS, "torch", made("channels_last"),
                enabled_inference if inference else fastconv.enabled)  # fmt: skip
    scope = torch.inference_mode if inference else WITH_GRADIENTS
    return [ours, *(Peer(f"torch {name}", "torch", made(name), scope) for name in formats)]


def of_family(family: Family) -> Part:
    """What the bench needs, from a family's record alone."""
    return Part(
        name=family.name,
        problem=family.problem,
        directions=family.directions,
        groups=family.sets,
        goals=(),
        operands=functools.partial(_operands, family),
        torch_call=functools.partial(_torch_call, family),
        bound=tolerance.real,
        flops=lambda p, task: p.flops * (len(family.directions) if task == "step" else 1),
        field=functools.partial(field_of, family),
        node=lambda o: f"no ONNX node is told of {family.name}",
        module=functools.partial(_module, family),
    )
