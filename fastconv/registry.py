"""Which kernels there are, and what each says to a problem."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from types import ModuleType
from typing import Any, Literal, cast

from fastconv import _cuda, _triton
from fastconv.problem import ConvProblem, Direction

#: Whose rows: the processor's, a GPU's, or a GPU's as tests run them, thread by thread on the CPU.
Device = Literal["cpu", "cuda", "cuda_on_cpu"]
DEVICES: tuple[Device, ...] = ("cpu", "cuda", "cuda_on_cpu")


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
    device: Device = "cpu"


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


def module(device: Device = "cpu") -> ModuleType:
    """The native module that runs the device's rows on NumPy arrays.

    Raises:
        RuntimeError: where it was not built; a GPU's rows run through torch alone.
    """
    if device == "cpu":
        return built_core()
    if device == "cuda":
        raise RuntimeError("the kernels of device 'cuda' take torch's tensors, not NumPy arrays")
    try:
        return importlib.import_module("fastconv._cuda_on_cpu")
    except ImportError:
        raise RuntimeError(
            "fastconv._cuda_on_cpu was not built: `pip install --editable` builds it, for tests"
        ) from None


def _why_no_cuda() -> str | None:
    """Why no CUDA row can run here: the build, torch, or the machine; None where one can."""
    if not built_core().cuda.built:
        return "fastconv was built without CUDA kernels (no nvcc was found)"
    return _cuda.why_not()


def _answers(device: Device) -> tuple[Any, dict[str, Any], str | None]:
    """What answers for a device's rows, what it has to be told, and why none of them runs."""
    if device == "cpu":
        return built_core(), {}, None
    if device == "cuda_on_cpu":
        return module(device), {}, None
    reason = _why_no_cuda()
    if reason is not None:
        return built_core().cuda, {}, reason
    told = {"capability": _cuda.capability(), "allow_tf32": _cuda.allows_tf32()}
    return built_core().cuda, told, None


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
    problem: ConvProblem | str | None = None,
    direction: Direction | None = None,
    precision: str = "high",
    device: Device = "cpu",
) -> list[Kernel]:
    """Every kernel in the order of choice, each with its reason against ``problem``.

    Without a problem the reasons are the machine's alone. An install without native kernels has
    none.

    Args:
        problem: a ``ConvProblem`` or its text.
        direction: ``"fprop"``, ``"dgrad"`` or ``"wgrad"``; None lists all.
        precision: how far ``auto`` may go, see ``fastconv.precision``.
        device: ``"cpu"`` or ``"cuda"``: the current GPU, whose rows are listed on every machine,
            with the reason why they do not run.

    Raises:
        ValueError: for text that is no problem, and for an unknown direction, precision or device.
    """
    if direction not in (None, "fprop", "dgrad", "wgrad"):
        raise ValueError(f"direction is {direction!r}; it must be 'fprop', 'dgrad' or 'wgrad'")
    if device not in DEVICES:
        raise ValueError(f"device is {device!r}; it must be 'cpu' or 'cuda'")
    triton = _triton_kernels(problem, direction, precision) if device == "cuda" else []
    if core() is None:
        return triton
    answers, told, none_runs = _answers(device)
    text = problem.encode() if isinstance(problem, ConvProblem) else problem
    found = []
    for row in answers.conv_rows():
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
    return found + triton


def _triton_kernels(
    problem: ConvProblem | str | None, direction: Direction | None, precision: str
) -> list[Kernel]:
    """As `kernels`, Triton's rows alone."""
    if precision not in ("exact", "high", "fast"):
        raise ValueError(f"precision is {precision!r}; it must be 'exact', 'high' or 'fast'")
    p = ConvProblem.decode(problem) if isinstance(problem, str) else problem
    none_runs = _triton.why_not()
    found = []
    for row in _triton.rows():
        if direction not in (None, row.direction):
            continue
        reason = auto_reason = none_runs
        if reason is None and p is not None:
            from fastconv.triton import choice

            reason = choice.why_not(row, p)
            auto_reason = choice.why_not_auto(row, p, precision, _cuda.allows_tf32())
        found.append(_answered(row, reason, auto_reason, "cuda"))
    return found


def find(name: str) -> Kernel:
    """The kernel of that name, of any device.

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
    problem: ConvProblem,
    direction: Direction,
    precision: str = "high",
    must_win: bool = False,
    device: Device = "cpu",
) -> str | None:
    """The kernel ``auto`` takes for ``problem``; None where torch's own is to run."""
    own: str | None = None
    if core() is not None:
        answers, told, none_runs = _answers(device)
        if none_runs is None:
            own = cast(
                "str | None",
                answers.choose(direction, problem.encode(), precision, must_win, **told),
            )
    if device == "cuda" and _triton.why_not() is None:
        from fastconv import plan

        return plan.preferred(direction, problem, precision, _cuda.allows_tf32(), must_win, own)
    return own


def refusals(problem: ConvProblem, direction: Direction, device: Device = "cpu") -> str:
    """The problem's line and each kernel's reason: the text of every "does not fit" error."""
    lines = [f"{direction} of {problem.encode()}:"]
    lines += [
        f"  {kernel.name}: {kernel.reason or 'takes it'}"
        for kernel in kernels(problem, direction, device=device)
    ]
    return "\n".join(lines)
