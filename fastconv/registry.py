"""Which kernels there are, and what each says to a problem."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from types import ModuleType
from typing import cast

from fastconv.problem import ConvProblem, Direction


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One row of a kernel table, and its answer to a problem where one was asked about.

    Attributes:
        reason: why the kernel does not run here or does not take the problem; None where it does.
        auto_reason: why ``auto`` passes over it: ``reason``, or precision, or an expected loss.
    """

    name: str
    target: str
    direction: Direction
    numerics: str
    algorithm: str
    reason: str | None
    auto_reason: str | None


def core() -> ModuleType | None:
    """The native module ``fastconv._core``, or None where it was not built."""
    try:
        return importlib.import_module("fastconv._core")
    except ImportError:
        return None


def built_core() -> ModuleType:
    """As ``core``.

    Raises:
        RuntimeError: where the native module was not built.
    """
    module = core()
    if module is None:
        raise RuntimeError(
            "fastconv was installed without its native kernels (no C++ compiler was found); "
            "install a compiler and run `pip install --force-reinstall --no-deps fastconv`"
        )
    return module


def kernels(
    problem: ConvProblem | str | None = None,
    direction: Direction | None = None,
    precision: str = "high",
) -> list[Kernel]:
    """Every kernel in the order of choice, each with its reason against ``problem``.

    Without a problem the reasons are the machine's alone. An install without native kernels has
    none.

    Args:
        problem: a ``ConvProblem`` or its text.
        direction: ``"fprop"``, ``"dgrad"`` or ``"wgrad"``; None lists all.
        precision: how far ``auto`` may go, see ``fastconv.precision``.

    Raises:
        ValueError: for text that is no problem, and for an unknown direction or precision.
    """
    if direction not in (None, "fprop", "dgrad", "wgrad"):
        raise ValueError(f"direction is {direction!r}; it must be 'fprop', 'dgrad' or 'wgrad'")
    module = core()
    if module is None:
        return []
    text = problem.encode() if isinstance(problem, ConvProblem) else problem
    found = []
    for row in module.conv_rows():
        if direction not in (None, row.direction):
            continue
        if text is None:
            reason = auto_reason = row.machine_reason
        else:
            reason = module.why_not(row.name, text)
            auto_reason = module.why_not_auto(row.name, text, precision)
        found.append(
            Kernel(
                row.name,
                row.target,
                row.direction,
                row.numerics,
                row.algorithm,
                reason,
                auto_reason,
            )
        )
    return found


def find(name: str) -> Kernel:
    """The kernel of that name.

    Raises:
        ValueError: with the nearest names, where there is no such kernel.
    """
    known = {kernel.name: kernel for kernel in kernels()}
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or list(known)[:3]
    hint = f"did you mean {' or '.join(close)}?" if close else "this install has no native kernels"
    raise ValueError(f"kernel is {name!r}, which does not exist; {hint}")


def chosen(
    problem: ConvProblem, direction: Direction, precision: str = "high", must_win: bool = False
) -> str | None:
    """The kernel ``auto`` takes for ``problem``; None where torch's own is to run."""
    module = core()
    if module is None:
        return None
    return cast("str | None", module.choose(direction, problem.encode(), precision, must_win))


def refusals(problem: ConvProblem, direction: Direction) -> str:
    """The problem's line and each kernel's reason: the text of every "does not fit" error."""
    lines = [f"{direction} of {problem.encode()}:"]
    lines += [
        f"  {kernel.name}: {kernel.reason or 'takes it'}" for kernel in kernels(problem, direction)
    ]
    return "\n".join(lines)
