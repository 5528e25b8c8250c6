"""Shape files: ``name  problem`` lines, ``#`` begins a comment; ``name*3`` stands for three layers."""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path

from fastconv.problem import ConvProblem


@dataclasses.dataclass(frozen=True)
class Case:
    """A named problem, and how often its network has it."""

    name: str
    problem: ConvProblem
    count: int = 1


def parse(text: str, source: str = "<text>") -> list[Case]:
    """The cases of a shape file's text.

    Raises:
        ValueError: naming the source, the line and the part that could not be read.
    """
    cases = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        name, _, count = words[0].partition("*")
        try:
            cases.append(Case(name, ConvProblem.decode(words[-1]), int(count or 1)))
        except ValueError as error:
            raise ValueError(f"{source}, line {number}: {error}") from None
    return cases


def read(path: str | Path) -> list[Case]:
    """The cases of a file."""
    return parse(Path(path).read_text(encoding="utf-8"), str(path))


def _shipped(name: str) -> list[Case]:
    file = resources.files("fastconv.testing") / "shapes" / name
    return parse(file.read_text(encoding="utf-8"), name)


def basic() -> list[Case]:
    """The shapes every kernel is tested on."""
    return _shipped("basic.txt")


def caches() -> list[Case]:
    """More shapes for the CPU's kernels, which go other ways where operands outgrow its caches."""
    return _shipped("caches.txt")


def cuda() -> list[Case]:
    """The shapes every CUDA kernel is tested on, in every dtype; small, for they run on the CPU."""
    return _shipped("cuda.txt")


def triton() -> list[Case]:
    """The layers that Triton's rows are compiled for ahead of time, by algorithm."""
    return _shipped("triton.txt")
