"""The families of kernels, a file each: nothing else of Python has to know their names."""

from __future__ import annotations

import functools
import importlib
import pkgutil

from fastconv.families.record import Family
from fastconv.problem_text import Problem

__all__ = ["all", "decode", "named", "of"]


@functools.cache
def all() -> tuple[Family, ...]:
    """Every family, by name."""
    files = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(
        importlib.import_module(f"{__name__}.{name}").FAMILY for name in files if name != "record"
    )


def named(name: str) -> Family:
    """The family of that name, or of a kernel of that name.

    Raises:
        ValueError: with the names there are.
        TypeError: for what is no name.
    """
    if not isinstance(name, str):
        raise TypeError(f"family is {name!r}; it must be a name")
    for family in all():
        if name == family.name or name.startswith(f"{family.name}_"):
            return family
    known = ", ".join(family.name for family in all())
    raise ValueError(f"family is {name!r}; it must be one of {known}")


def of(problem: Problem | str) -> Family:
    """The family of a problem, or of a problem's text.

    Raises:
        ValueError: where the text is no family's.
    """
    for family in all():
        own = family.problem.is_text(problem) if isinstance(problem, str) else False
        if own or type(problem) is family.problem:
            return family
    marks = "; ".join(f"{family.name} has {' or '.join(family.problem.MARKS)}" for family in all())
    raise ValueError(f"problem {problem!r} is of no family: {marks}")


def decode(text: str) -> Problem:
    """The problem that the text says.

    Raises:
        ValueError: where it is no family's, and naming the part that could not be read.
    """
    return of(text).problem.decode(text)
