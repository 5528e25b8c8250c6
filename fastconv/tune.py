"""Measures plans: how long each kernel takes for a problem on this GPU.

`measure` times the native kernels, Triton's in every configuration, and torch's own: in the better
of its two memory formats, with ``cudnn.benchmark`` on. A kernel is timed only after its result
matched torch's in float64. The least of many times is lower than what any of them takes again, so
the fastest of the first pass are timed anew, in turn. What was found is kept (`fastconv.plans`), and
is used from then on by whatever chooses: a measurement stands above all heuristics.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastconv import _cuda, _native, _triton, families, plans, python_rows, registry
from fastconv.families.record import Call
from fastconv.plans import TORCH, Plan
from fastconv.problem_text import Problem
from fastconv.tensors import INDEX_DTYPES, drawn, in_layout
from fastconv.testing import tolerance
from fastconv.testing.tolerance import Tolerance

if TYPE_CHECKING:
    from fastconv.triton import Config, Row

__all__ = ["TORCH", "Plan", "measure"]

Clock = Callable[[Callable[[], object]], float]

#: Who is timed again: within this factor of the fastest of its class of numerics, so many at most.
_NEAR, _FINALISTS = 1.25, 8
#: How often each of them is.
_ROUNDS = 5


def _native_call(name: str, direction: str, p: Problem, t: Mapping[str, Tensor]) -> Call:
    """A native row by its name."""
    return families.of(p).native_call(p, direction, t, name)


def _torch_call(direction: str, p: Problem, t: Mapping[str, Tensor]) -> Call:
    """torch's own kernel for the direction, as its autograd calls it."""
    return families.of(p).torch_call(p, direction, t)


@contextlib.contextmanager
def _searching() -> Iterator[None]:
    """cuDNN measures its own kernels and takes the fastest."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _row_call(
    row: Row, direction: str, p: Problem, config: Config, t: Mapping[str, Tensor]
) -> Call:
    """A Triton row in a configuration; its result lies as the problem says, a weight as torch's."""
    from fastconv.triton import call

    family = families.of(p)
    written = family.output(direction)
    indices = _indices(direction, p, t)

    def run() -> Tensor:
        # What has the result's extents: what it is the gradient of, or the gradient of it.
        if written.kind == "weight":
            out = torch.empty_like(t["w"])
        else:
            out = torch.empty_like(t["x" if written.side == "x" else "dy"])
        read = family.inputs(direction, p)
        given = {each.name: t[each.name] for each in read if each.kind != "index"}
        call.run(row, p, given | indices | {written.name: out}, config=config)
        return out

    return run


def _indices(direction: str, p: Problem, t: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Room for the indices that a call of the direction writes, or those that it reads: of the drawn
    input, by the first row that writes them.
    """
    from fastconv.triton import call, choice

    family = families.of(p)
    if not family.indexed(p):
        return {}
    index = torch.empty_like(t["dy"], dtype=INDEX_DTYPES[family.indexed(p)])
    if family.index_of(direction, p) is None:
        writer = next(each for each in family.directions if family.index_of(each, p))
        row = choice.choose(writer, p)
        assert row is not None
        given = {each.name: t[each.name] for each in family.inputs(writer, p)}
        call.run(row, p, given | {"index": index, "out": torch.empty_like(t["dy"])})
    return {"index": index}


def _seconds(call: Callable[[], object]) -> float:
    """Median time of a call on the current GPU, in seconds."""
    from triton.testing import do_bench

    return float(do_bench(call, return_mode="median")) * 1e-3


def _without_host(call: Call) -> Callable[[], object]:
    """The call without the host's part, which hides a kernel of microseconds, wherever it can be
    captured.
    """
    with contextlib.suppress(Exception):
        return _cuda.captured(call)
    return call


@dataclasses.dataclass
class _Entry:
    """A call that was right, and its first time; those of the last rounds."""

    name: str
    numerics: str
    call: Call
    config: dict[str, Any] | None
    first: float
    again: list[float] = dataclasses.field(default_factory=list)

    @property
    def microseconds(self) -> float:
        return (statistics.median(self.again) if self.again else self.first) * 1e6


class _Contest:
    """Judges and times calls. What goes wrong is noted, not raised.

    Args:
        want: the true result, in float64.
        seconds: the clock.
    """

    def __init__(self, want: Tensor, seconds: Clock) -> None:
        self._want, self._seconds = want, seconds
        self._entries: list[_Entry] = []
        self._faults: dict[str, str] = {}
        self._raised: dict[str, str] = {}

    def enter(
        self,
        name: str,
        numerics: str,
        call: Call,
        bound: Tolerance | None,
        config: dict[str, Any] | None = None,
    ) -> None:
        """Times a call, if it is right.

        Raises:
            RuntimeError: where the call has left the process without a GPU.
        """
        with self._noted(name):
            if bound is not None and (wrong := int(bound.outside(call(), self._want).sum())):
                self._faults[name] = f"wrong in {wrong} of {self._want.numel()} elements"
                return
            taken = self._seconds(_without_host(call))
            self._entries.append(_Entry(name, numerics, call, config, taken))

    @contextlib.contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        """Notes an error, such as of a configuration that this GPU has no room for."""
        try:
            yield
        except Exception as error:
            if _cuda.is_lost():
                raise RuntimeError(f"{name}: {error}") from error
            self._raised[name] = f"{type(error).__name__}: {error}"

    def _finalists(self) -> list[_Entry]:
        """torch's calls, and of each class of numerics those near its fastest: any class may be
        what is allowed when the plan is used.
        """
        fastest: dict[str, float] = {}
        for entry in self._entries:
            least = fastest.get(entry.numerics, entry.first)
            fastest[entry.numerics] = min(least, entry.first)
        ours = [entry for entry in self._entries if entry.name != TORCH]
        behind = sorted((each.first / fastest[each.numerics], i) for i, each in enumerate(ours))
        near = [ours[i] for factor, i in behind[:_FINALISTS] if factor <= _NEAR]
        return [entry for entry in self._entries if entry.name == TORCH or entry in near]

    def _time_again(self) -> None:
        """Each finalist once a round, in an order that is drawn anew for each."""
        order = random.Random(0)
        timed = [(entry, _without_host(entry.call)) for entry in self._finalists()]
        for _ in range(_ROUNDS):
            order.shuffle(timed)
            for entry, call in timed:
                with self._noted(entry.name):
                    entry.again.append(self._seconds(call))

    def close(self) -> Plan:
        """The plan: each kernel at its fastest call, and why a kernel has no time at all."""
        self._time_again()
        plan = Plan({}, {}, {}, self._faults)
        for entry in sorted(self._entries, key=lambda entry: entry.microseconds):
            if entry.name in plan.microseconds:
                continue
            plan.microseconds[entry.name] = entry.microseconds
            plan.numerics[entry.name] = entry.numerics
            if entry.config is not None:
                plan.configs[entry.name] = entry.config
        for name, text in self._raised.items():
            if name not in plan.microseconds:
                plan.faults.setdefault(name, text)
        return plan


def _enter_torch(contest: _Contest, direction: str, p: Problem, t: Mapping[str, Tensor]) -> None:
    """torch's own kernel, in both memory formats: what counts is the better one."""
    for layout in ("nhwc", "nchw"):
        moved = {name: in_layout(each, layout) for name, each in t.items()}
        # Its sums are exact by whatever torch's own switches say.
        contest.enter(TORCH, "exact", _torch_call(direction, p, moved), None)


def _enter_ours(contest: _Contest, direction: str, p: Problem, t: Mapping[str, Tensor]) -> None:
    """Every native row that takes the problem, and every Triton row in every configuration."""
    from fastconv.triton import choice

    for kernel in registry.kernels(p, direction, device="cuda"):
        if kernel.reason is None and kernel.target != "triton" and _native.has_cuda:
            call = _native_call(kernel.name, direction, p, t)
            bound = tolerance.real(p, direction, kernel.numerics)
            contest.enter(kernel.name, kernel.numerics, call, bound)
    family = families.of(p).name
    for row in _triton.rows():
        if (row.family, row.direction) != (family, direction):
            continue
        refusal, seen = choice.ask(row, p)
        if refusal is not None:
            continue
        bound = tolerance.real(p, direction, row.numerics)
        for config in row.configs(seen):
            call = _row_call(row, direction, p, config, t)
            contest.enter(row.name, row.numerics, call, bound, dataclasses.asdict(config))


def measure(direction: str, p: Problem, seconds: Clock = _seconds) -> Plan:
    """Times every kernel that takes the problem, and torch's; keeps and returns the plan.

    A kernel that fails, be it torch's, has no time in the plan, and stands among its faults.

    Args:
        p: a problem that torch has a kernel for.
        seconds: the clock: the time of a call.

    Raises:
        RuntimeError: where Triton's kernels do not run; where torch has no result in float64; where
            a kernel has left the process without a GPU.
        ValueError: for a problem that torch does not take, such as one of uneven padding.
    """
    reason = _triton.why_not()
    if reason is not None:
        raise RuntimeError(f"fastconv.tune: {reason}")
    family = families.of(p)
    if refusal := family.why_not_torch(p):
        raise ValueError(f"problem is {p.encode()}; {refusal}")
    t = drawn(p, family.drawn(), torch.device(_triton.device_types()[-1]))
    want = _torch_call(direction, p, {name: each.double() for name, each in t.items()})()
    contest = _Contest(want, seconds)
    with _searching():
        _enter_torch(contest, direction, p, t)
        _enter_ours(contest, direction, p, t)
        plan = contest.close()
    plans.keep(direction, p, plan)
    python_rows.announce()
    return plan
