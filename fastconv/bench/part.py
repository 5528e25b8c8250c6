"""A family's part in the bench: what is asked of it, for the rest of this folder to serve any."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch

from fastconv.bench.onnx import Node
from fastconv.bench.timing import Call, Entry, Scope
from fastconv.problem_text import Problem
from fastconv.testing.tolerance import Tolerance

#: A direction, or forward and backward together.
Task = Literal["fprop", "dgrad", "wgrad", "step"]
TASKS: tuple[Task, ...] = ("fprop", "dgrad", "wgrad", "step")
#: What a layer of ours knows of its weight: that it is frozen and packed once; nothing, so that each
#: call compares it with what was packed; or that each call packs it.
Regime = Literal["packed", "compared", "unpacked"]
REGIMES: tuple[Regime, ...] = ("packed", "compared", "unpacked")


@dataclasses.dataclass(frozen=True)
class Operands:
    """A layer's tensors by name, dense in plain layout, values in [-1, 1]."""

    problem: Any
    tensors: Mapping[str, torch.Tensor]

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.tensors[name]

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Operands:
        """The operands with each tensor changed."""
        return Operands(self.problem, {name: change(t) for name, t in self.tensors.items()})

    def to(self, memory_format: torch.memory_format = torch.contiguous_format) -> Operands:
        """The same numbers in another memory format, in memory of their own."""
        return self.map(lambda t: t.clone(memory_format=memory_format))


def _itself(result: Any) -> Any:
    return result


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A layer made ready: all that a user does once is done.

    Attributes:
        call: what is timed; operands and functions are bound in it.
        read: the layer's output, from what the call returned; not timed.
        alive: what must live as long as the call.
    """

    call: Call
    read: Callable[[Any], Any] = _itself
    alive: tuple[Any, ...] = ()

    def result(self) -> Any:
        """The output of one call."""
        return self.read(self.call())


@dataclasses.dataclass(frozen=True)
class Peer:
    """One way to run a layer.

    Attributes:
        runtime: whose threads spin after a call; peers of one runtime need no pause between them.
        make: the layer made ready, or why the peer has no such path.
        scope: entered around the calls, not timed.
    """

    name: str
    runtime: str
    make: Callable[[Operands, Task], Prepared | str]
    scope: Scope = torch.inference_mode

    def entry(self, prepared: Prepared) -> Entry:
        return Entry(self.name, self.runtime, prepared.call, self.scope, keeps=prepared)


@dataclasses.dataclass(frozen=True)
class Goal:
    """A figure to reach: over the layers that ``pattern`` matches, a geometric mean and a least
    ratio.
    """

    text: str
    pattern: str
    mean: float | None = None
    least: float | None = None


@dataclasses.dataclass(frozen=True)
class Part:
    """What the bench knows of one family.

    Attributes:
        problem: its record.
        directions: in the order of the results that a step returns.
        groups: the family's sets, by the groups that ``--set`` knows beside ``all``.
        operands: a problem's seeded tensors.
        torch_call: a task by PyTorch's own functions, as they stand in the operands' memory format.
        bound: of real numbers in [-1, 1], by direction and the kernel's class.
        flops: of a task.
        field: fastconv's peer first, then torch's own paths.
        node: the forward direction for engines that take ONNX, or why ONNX has no such node.
        module: the same as a module of torch.nn in eval mode, and its input.
    """

    name: str
    problem: type[Problem]
    directions: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    goals: tuple[Goal, ...]
    operands: Callable[[Any, int], Operands]
    torch_call: Callable[[Operands, Task], Prepared]
    bound: Callable[[Any, str, str], Tolerance]
    flops: Callable[[Any, Task], int]
    field: Callable[[Task, Regime], list[Peer]]
    node: Callable[[Operands], Node | str]
    module: Callable[[Operands], tuple[torch.nn.Module, torch.Tensor]]

    def directions_of(self, task: Task) -> tuple[str, ...]:
        return self.directions if task == "step" else (task,)
