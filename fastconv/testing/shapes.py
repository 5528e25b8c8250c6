"""Shape files: ``name  problem`` lines, ``#`` begins a comment; ``name*3`` stands for three layers."""

from __future__ import annotations

import dataclasses
from importlib import resources
from typing import Any

from fastconv import families


@dataclasses.dataclass(frozen=True)
class Case:
    """A named problem of any family, and how often its network has it."""

    name: str
    problem: Any
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
            cases.append(Case(name, families.decode(words[-1]), int(count or 1)))
        except ValueError as error:
            raise ValueError(f"{source}, line {number}: {error}") from None
    return cases


def _shipped(kind: str, family: str | None) -> list[Case]:
    """The cases of the files of a kind: of one family, or of all."""
    found = []
    for each in families.all() if family is None else (families.named(family),):
        if name := getattr(each.shapes, kind):
            file = resources.files("fastconv.testing") / "shapes" / name
            found += parse(file.read_text(encoding="utf-8"), name)
    return found


def basic(family: str | None = None) -> list[Case]:
    """The shapes every kernel is tested on."""
    return _shipped("basic", family)


def caches(family: str | None = None) -> list[Case]:
    """More shapes for the CPU's kernels, which go other ways where operands outgrow its caches."""
    return _shipped("caches", family)


def cuda(family: str | None = None) -> list[Case]:
    """The shapes every CUDA kernel is tested on, in every dtype; small, for they run on the CPU."""
    return _shipped("cuda", family)


def triton(family: str | None = None) -> list[Case]:
    """The layers that Triton's rows are compiled for ahead of time, by algorithm."""
    return _shipped("triton", family)
