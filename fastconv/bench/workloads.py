"""What is measured: layer sets from ``sets/*.txt``."""

from __future__ import annotations

import dataclasses
from importlib import resources
from typing import Any

from fastconv.bench.part import TASKS, Goal, Part, Task
from fastconv.bench.parts import part_of, parts
from fastconv.testing import shapes

__all__ = ["TASKS", "Task", "Workload", "goals", "groups", "part_of", "parts", "read_set",
           "set_names", "workloads"]  # fmt: skip


def groups() -> dict[str, tuple[str, ...]]:
    """The sets that each group stands for; ``all`` has those of every group."""
    named: dict[str, tuple[str, ...]] = {}
    for part in parts():
        for name, sets in part.groups.items():
            named[name] = named.get(name, ()) + sets
    return {"all": tuple(name for sets in named.values() for name in sets)} | named


def goals() -> list[Goal]:
    """The figures to reach, of every family."""
    return [goal for part in parts() for goal in part.goals]


def set_names() -> list[str]:
    """Names that ``read_set`` knows."""
    folder = resources.files("fastconv.bench") / "sets"
    return sorted(
        file.name.removesuffix(".txt") for file in folder.iterdir() if file.name.endswith(".txt")
    )


def read_set(name: str) -> list[shapes.Case]:
    """The layers of a set.

    Raises:
        ValueError: listing the sets, for a name that is none.
    """
    if name not in set_names():
        known = ", ".join([*groups(), *set_names()])
        raise ValueError(f"set is {name!r}; it must be one of {known}")
    file = resources.files("fastconv.bench") / "sets" / f"{name}.txt"
    return shapes.parse(file.read_text(encoding="utf-8"), f"{name}.txt")


@dataclasses.dataclass(frozen=True)
class Workload:
    """One layer to be measured: ``task`` is a direction, or ``"step"`` for forward and backward
    together.
    """

    set_name: str
    name: str
    problem: Any
    count: int
    task: Task

    @property
    def part(self) -> Part:
        return part_of(self.problem)

    @property
    def flops(self) -> int:
        return self.part.flops(self.problem, self.task)


def workloads(
    sets: list[str], batch: int | None = None, dtype: str = "f32", task: Task | None = None
) -> list[Workload]:
    """The workloads of some sets or groups of sets.

    Args:
        batch: in place of the sets' own.
        task: in place of the sets' own, which is ``"step"`` for ``training`` and ``"fprop"``
        elsewhere.
    """
    known = groups()
    names = [member for name in sets for member in known.get(name, (name,))]
    found: list[Workload] = []
    for set_name in dict.fromkeys(names):
        own: Task = "step" if set_name == "training" else "fprop"
        seen = set()
        for case in read_set(set_name):
            problem = case.problem.replace(dtype=dtype)
            name = case.name
            if batch is not None:
                problem = problem.replace(N=batch)
                name = name.removesuffix(f"_n{case.problem.N}")
            if problem not in seen:
                seen.add(problem)
                found.append(Workload(set_name, name, problem, case.count, task or own))
    return found
