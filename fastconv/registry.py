"""Which kernels there are, and what each says to a problem."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from fastconv import _cuda, _triton, families
from fastconv._tables import DEVICES, Device, Table, built_core, core, module, table
from fastconv.families.record import Family
from fastconv.problem_text import Problem
from fastconv.words import PRECISIONS

__all__ = [
    "DEVICES",
    "Device",
    "Kernel",
    "Table",
    "built_core",
    "chosen",
    "core",
    "find",
    "kernels",
    "module",
    "table",
]


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One row of a kernel table, and its answer to a problem where one was asked about.

    Attributes:
        reason: why the kernel does not run here or does not take the problem; None where it does.
        auto_reason: why ``auto`` passes over it: ``reason``, or precision, or an expected loss.
    """

    name: str
    target: str
    direction: str
    numerics: str
    algorithm: str
    reason: str | None
    auto_reason: str | None
    device: Device = "cpu"

    @property
    def family(self) -> str:
        """What its name begins with."""
        return self.name.partition("_")[0]


def _why_no_cuda() -> str | None:
    """Why no CUDA row can run here: the build, torch, or the machine; None where one can."""
    if not module("cuda").built:
        return "fastconv was built without CUDA kernels (no nvcc was found)"
    return _cuda.why_not()


def _told(device: Device) -> tuple[dict[str, Any], str | None]:
    """What a device's tables have to be told, and why none of their rows runs."""
    if device != "cuda":
        return {}, None
    reason = _why_no_cuda()
    if reason is not None:
        return {}, reason
    return {"capability": _cuda.capability(), "allow_tf32": _cuda.allows_tf32()}, None


def _answered(row: Any, reason: str | None, auto_reason: str | None, device: Device) -> Kernel:
    """A row of a native table or of Triton's, with what it says."""
    return Kernel(
        row.name,
        row.target,
        row.direction,
        row.numerics,
        row.algorithm,
        reason,
        auto_reason,
        device,
    )


def kernels(
    problem: Problem | str | None = None,
    direction: str | None = None,
    precision: str = "high",
    device: Device = "cpu",
    family: str | None = None,
) -> list[Kernel]:
    """Every kernel in the order of choice, each with its reason against ``problem``.

    Without a problem the reasons are the machine's alone. An install without native kernels has
    none.

    Args:
        problem: a ``ConvProblem``, another family's problem, or its text, where fields that are not
            written have the record's defaults: ``"k3"`` is 1x1 to 3 channels.
        direction: ``"fprop"``, ``"dgrad"`` or ``"wgrad"``; None lists all.
        precision: how far ``auto`` may go, see ``fastconv.precision``.
        device: ``"cpu"`` or ``"cuda"``: the current GPU, whose rows are listed on every machine,
            with the reason why they do not run.
        family: the kernels of one family alone; None takes the problem's, or all.

    Raises:
        ValueError: for text that is no problem, and for an unknown direction, precision, device or
            family.
    """
    if device not in DEVICES:
        raise ValueError(f"device is {device!r}; it must be 'cpu' or 'cuda'")
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; it must be 'exact', 'high' or 'fast'")
    asked = families.all() if family is None else (families.named(family),)
    if problem is not None:
        asked = (families.of(problem),)
    if direction is not None and not any(direction in each.directions for each in asked):
        known = " or ".join(repr(name) for each in asked[:1] for name in each.directions)
        raise ValueError(f"direction is {direction!r}; it must be {known}")
    found: list[Kernel] = []
    for each in asked:
        if core() is not None:
            found += _native_kernels(each, problem, direction, precision, device)
        if device == "cuda":
            found += _triton_kernels(each, problem, direction, precision)
    return found


def _native_kernels(
    family: Family,
    problem: Problem | str | None,
    direction: str | None,
    precision: str,
    device: Device,
) -> list[Kernel]:
    """As `kernels`, a family's native rows alone."""
    answers = table(family.name, device)
    if answers is None:
        return []
    told, none_runs = _told(device)
    text = problem.encode() if isinstance(problem, Problem) else problem
    found = []
    reason: str | None
    auto_reason: str | None
    for row in answers.rows():
        if direction not in (None, row.direction):
            continue
        if none_runs is not None:
            reason = auto_reason = none_runs
        elif text is None:
            reason = auto_reason = (
                answers.why_not_target(row.name, told["capability"])
                if device == "cuda"
                else row.machine_reason
            )
        else:
            reason = answers.why_not(row.name, text, **told)
            auto_reason = answers.why_not_auto(row.name, text, precision, **told)
        found.append(_answered(row, reason, auto_reason, device))
    return found


def _triton_kernels(
    family: Family, problem: Problem | str | None, direction: str | None, precision: str
) -> list[Kernel]:
    """As `kernels`, a family's rows of Triton's alone."""
    p = families.decode(problem) if isinstance(problem, str) else problem
    none_runs = _triton.why_not()
    found = []
    for row in _triton.rows():
        if row.family != family.name or direction not in (None, row.direction):
            continue
        reason = auto_reason = none_runs
        if reason is None and p is not None:
            from fastconv.triton import choice

            reason = choice.why_not(row, p)
            auto_reason = choice.why_not_auto(row, p, precision, _cuda.allows_tf32())
        found.append(_answered(row, reason, auto_reason, "cuda"))
    return found


def find(name: str) -> Kernel:
    """The kernel of that name, of any family and device.

    Raises:
        ValueError: with the nearest names, where there is no such kernel.
    """
    known = {kernel.name: kernel for kernel in (*kernels(), *kernels(device="cuda"))}
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or list(known)[:3]
    hint = f"did you mean {' or '.join(close)}?" if close else "this install has no native kernels"
    raise ValueError(f"kernel is {name!r}, which does not exist; {hint}")


def chosen(
    problem: Problem,
    direction: str,
    precision: str = "high",
    must_win: bool = False,
    device: Device = "cpu",
) -> str | None:
    """The kernel ``auto`` takes for ``problem``; None where torch's own is to run."""
    family = families.of(problem)
    own: str | None = None
    answers = None if core() is None else table(family.name, device)
    if answers is not None:
        told, none_runs = _told(device)
        if none_runs is None:
            own = answers.choose(direction, problem.encode(), precision, must_win, **told)
    if device == "cuda" and _triton.why_not() is None:
        from fastconv import plan

        return plan.preferred(direction, problem, precision, _cuda.allows_tf32(), must_win, own)
    return own
