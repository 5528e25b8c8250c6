"""What is measured: layer sets from ``sets/*.txt``, and the tensors of one layer."""

from __future__ import annotations

import dataclasses
import functools
from importlib import resources
from typing import Literal

import torch

from fastconv.problem import ConvProblem
from fastconv.testing import shapes

Task = Literal["fprop", "dgrad", "wgrad", "step"]
TASKS: tuple[Task, ...] = ("fprop", "dgrad", "wgrad", "step")
DTYPES = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "f16": torch.float16}
NETWORKS = ("resnet18", "resnet50", "vgg16", "mobilenetv2", "resnext50")
FIGURES = (
    "dense3x3",
    "deep3x3",
    "dilated",
    "pointwise",
    "stem",
    "depthwise",
    "grouped",
    "training",
)
GROUPS = {"all": NETWORKS + FIGURES, "networks": NETWORKS, "figures": FIGURES}


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
        raise ValueError(f"set is {name!r}; it must be one of {', '.join([*GROUPS, *set_names()])}")
    file = resources.files("fastconv.bench") / "sets" / f"{name}.txt"
    return shapes.parse(file.read_text(encoding="utf-8"), f"{name}.txt")


@dataclasses.dataclass(frozen=True)
class Workload:
    """One layer to be measured: ``task`` is a direction, or ``"step"`` for forward and backward
    together.
    """

    set_name: str
    name: str
    problem: ConvProblem
    count: int
    task: Task

    @property
    def flops(self) -> int:
        return self.problem.flops * (3 if self.task == "step" else 1)


def workloads(
    sets: list[str], batch: int | None = None, dtype: str = "f32", task: Task | None = None
) -> list[Workload]:
    """The workloads of some sets or groups of sets.

    Args:
        batch: in place of the sets' own.
        task: in place of the sets' own, which is ``"step"`` for ``training`` and ``"fprop"``
        elsewhere.
    """
    names = [member for name in sets for member in GROUPS.get(name, (name,))]
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


@dataclasses.dataclass(frozen=True)
class Tensors:
    """Operands in NCHW: ``x`` [N,C,H,W], ``w`` [K,C/groups,R,S], ``dy`` [N,K,P,Q]; values in [-1,
    1].
    """

    problem: ConvProblem
    x: torch.Tensor
    w: torch.Tensor
    dy: torch.Tensor

    @functools.cached_property
    def stride(self) -> list[int]:
        return [self.problem.stride_h, self.problem.stride_w]

    @functools.cached_property
    def padding(self) -> list[int]:
        return [self.problem.pad_h, self.problem.pad_w]

    @functools.cached_property
    def dilation(self) -> list[int]:
        return [self.problem.dilation_h, self.problem.dilation_w]

    def to(self, memory_format: torch.memory_format = torch.contiguous_format) -> Tensors:
        """The same numbers in another memory format, in memory of their own."""
        x, w, dy = (t.clone(memory_format=memory_format) for t in (self.x, self.w, self.dy))
        return Tensors(self.problem, x, w, dy)


def tensors(problem: ConvProblem, seed: int = 0) -> Tensors:
    """Seeded operands of a 2-d problem."""
    p = problem
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return (torch.rand(shape, generator=random) * 2 - 1).to(DTYPES[p.dtype])

    return Tensors(
        p, draw(p.N, p.C, p.H, p.W), draw(p.K, p.C_per_group, p.R, p.S), draw(p.N, p.K, p.P, p.Q)
    )
