"""Measured plans: how long each kernel takes for a problem on this GPU, kept on disk.

`measure` times the CUDA kernels, Triton's in every configuration, and torch's own: in the better of
its two memory formats, with ``cudnn.benchmark`` on. A kernel is timed only after its result matched
torch's in float64. What it found is kept under FASTCONV_CACHE (default ~/.cache/fastconv), in a file
named by GPU and versions, and is used from then on by whatever chooses: a measurement stands above
all heuristics.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastconv import _cuda, _files, _native, _triton, reference, registry
from fastconv.problem import ConvProblem, Direction
from fastconv.tensors import DTYPES
from fastconv.testing import tolerance
from fastconv.testing.tolerance import Tolerance

if TYPE_CHECKING:
    from fastconv.triton import Config, Row

__all__ = ["TORCH", "Plan", "config_for", "measure", "measured"]

#: The name of torch's own kernel among the measured.
TORCH = "torch"
_SCHEMA = 2


@dataclasses.dataclass(frozen=True)
class Plan:
    """What was measured for a problem.

    Attributes:
        microseconds: of each kernel that was right, at its best configuration, and of `TORCH`.
        numerics: what the sums of each are worth.
        configs: the best configuration of each of Triton's kernels.
        faults: what was wrong with the kernels whose result was, and with those that did not run.
    """

    microseconds: dict[str, float]
    numerics: dict[str, str]
    configs: dict[str, dict[str, Any]]
    faults: dict[str, str] = dataclasses.field(default_factory=dict)


def folder() -> Path:
    """Where plans are kept."""
    given = os.environ.get("FASTCONV_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "fastconv"


def _where() -> str:
    """The GPU and the versions that a measurement holds for."""
    import triton

    from fastconv.info import version

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "interpreter"
    return f"{device}; fastconv {version()}; torch {torch.__version__}; triton {triton.__version__}"


def _file() -> Path:
    return folder() / f"plans-{hashlib.sha256(_where().encode()).hexdigest()[:16]}.json"


def _key(direction: Direction, p: ConvProblem) -> str:
    return f"{direction} {p.encode()}"


@functools.cache
def _plans() -> dict[str, Plan]:
    """The plans on disk for this GPU and these versions; none from a file that cannot be read."""
    try:
        stored = json.loads(_file().read_text(encoding="utf-8"))
        if stored["schema"] != _SCHEMA or stored["where"] != _where():
            return {}
        return {key: Plan(**plan) for key, plan in stored["plans"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _save() -> None:
    """Writes the plans, and has the op library ask for them."""
    stored = {
        "schema": _SCHEMA,
        "where": _where(),
        "plans": {key: dataclasses.asdict(plan) for key, plan in _plans().items()},
    }
    _files.write_json(_file(), stored)
    _triton.announce()


def measured(direction: Direction, p: ConvProblem) -> Plan | None:
    """What was measured for the problem on this GPU; None where nothing was."""
    plans = _plans()
    return plans.get(_key(direction, p)) if plans else None


def config_for(row: Row, p: ConvProblem, seen: ConvProblem) -> Config:
    """The row's measured configuration for the problem, else its choice without tuning for the
    problem as the row sees it.
    """
    plan = measured(row.direction, p)
    if plan is not None and row.name in plan.configs:
        from fastconv.triton import Config

        return Config(**plan.configs[row.name])
    return row.configs(seen)[0]


def _axes(p: ConvProblem) -> int:
    """How many spatial axes torch is given: 2 for a problem without depth, as torch itself takes
    1-d ones.
    """
    return 2 if p.is_2d else 3


def _in_format(t: Tensor, layout: str) -> Tensor:
    """``t`` dense in the layout: itself, or a copy."""
    last = torch.channels_last if t.dim() == 4 else torch.channels_last_3d
    return t.contiguous(memory_format=last if layout == "nhwc" else torch.contiguous_format)


def _operands(p: ConvProblem, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """x, w and dy of the problem with uniform values, [N, C, H, W] or [N, C, D, H, W] and so on, in
    its layouts.
    """
    generator = torch.Generator(device=device).manual_seed(0)
    dtype = next(dtype for dtype, name in DTYPES.items() if name == p.dtype)

    def draw(outer: tuple[int, int], extents: tuple[int, int, int], layout: str) -> Tensor:
        sizes = (*outer, *extents[-_axes(p) :])
        t = torch.rand(sizes, generator=generator, device=device, dtype=torch.float32) * 2 - 1
        return _in_format(t.to(dtype), layout)

    return (
        draw((p.N, p.C), (p.D, p.H, p.W), p.x_layout),
        draw((p.K, p.C_per_group), (p.T, p.R, p.S), p.x_layout),
        draw((p.N, p.K), (p.Z, p.P, p.Q), p.y_layout),
    )


def _geometry(p: ConvProblem) -> tuple[list[int], list[int], list[int], int]:
    axes = _axes(p)
    return (
        [p.stride_d, p.stride_h, p.stride_w][-axes:],
        [p.pad_d, p.pad_h, p.pad_w][-axes:],
        [p.dilation_d, p.dilation_h, p.dilation_w][-axes:],
        p.groups,
    )


def _native_call(
    name: str, direction: Direction, p: ConvProblem, x: Tensor, w: Tensor, dy: Tensor
) -> Callable[[], Tensor]:
    """A CUDA row by its name."""
    ops, geometry = torch.ops.fastconv, _geometry(p)
    if direction == "fprop":
        return lambda: ops.conv(x, w, None, *geometry, name)
    if direction == "dgrad":
        return lambda: ops.conv_dgrad(dy, w, None, x.shape, *geometry, name)
    return lambda: ops.conv_wgrad(dy, x, w.shape, w.stride(), *geometry, name)


def _torch_call(
    direction: Direction, p: ConvProblem, x: Tensor, w: Tensor, dy: Tensor
) -> Callable[[], Tensor]:
    """torch's own kernel for the direction, as its autograd calls it."""
    if direction == "fprop":
        return lambda: reference.conv(x, w, None, *_geometry(p))
    *geometry, groups = _geometry(p)
    mask = [direction == "dgrad", direction == "wgrad", False]
    options = (None, *geometry, False, [0] * _axes(p), groups, mask)
    backward, index = torch.ops.aten.convolution_backward, mask.index(True)
    return lambda: backward(dy, x, w, *options)[index]


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
    row: Row, p: ConvProblem, config: Config, x: Tensor, w: Tensor, dy: Tensor
) -> Callable[[], Tensor]:
    from fastconv.triton import call

    def run() -> Tensor:
        if row.direction == "wgrad":
            out = torch.empty_like(w)
            call.run_wgrad(row, p, x, dy, out, config)
            return out
        fprop = row.direction == "fprop"
        out = torch.empty_like(dy if fprop else x)
        call.run_forward(row, p, x if fprop else dy, w, out, config=config)
        return out

    return run


def _seconds(call: Callable[[], Tensor]) -> float:
    """Median time of a call on the current GPU, in seconds: without the host's part, which hides a
    kernel of microseconds, wherever the call can be captured.
    """
    from triton.testing import do_bench

    timed: Callable[[], object] = call
    with contextlib.suppress(Exception):
        timed = _cuda.captured(call)
    return float(do_bench(timed, return_mode="median")) * 1e-3


class _Contest:
    """Fills a plan: each call is judged, then timed. What goes wrong is noted, not raised.

    Args:
        want: the true result, in float64.
        seconds: the clock.
    """

    def __init__(
        self, plan: Plan, want: Tensor, seconds: Callable[[Callable[[], Tensor]], float]
    ) -> None:
        self._plan, self._want, self._seconds = plan, want, seconds
        self._raised: dict[str, str] = {}

    def enter(
        self, name: str, numerics: str, call: Callable[[], Tensor], bound: Tolerance | None
    ) -> bool:
        """Whether the call was right, and faster than the kernel's calls before it.

        Raises:
            RuntimeError: where the call has left the process without a GPU.
        """
        try:
            if bound is not None and (wrong := int(bound.outside(call(), self._want).sum())):
                self._plan.faults[name] = f"wrong in {wrong} of {self._want.numel()} elements"
                return False
            taken = self._seconds(call) * 1e6
        except Exception as error:  # such as a configuration that this GPU has no room for
            if _cuda.is_lost():
                raise RuntimeError(f"{name}: {error}") from error
            self._raised[name] = f"{type(error).__name__}: {error}"
            return False
        if taken >= self._plan.microseconds.get(name, float("inf")):
            return False
        self._plan.microseconds[name], self._plan.numerics[name] = taken, numerics
        return True

    def close(self) -> None:
        """Notes why a kernel has no time at all."""
        for name, text in self._raised.items():
            if name not in self._plan.microseconds:
                self._plan.faults.setdefault(name, text)


def _enter_torch(
    contest: _Contest, direction: Direction, p: ConvProblem, x: Tensor, w: Tensor, dy: Tensor
) -> None:
    """torch's own kernel, in both memory formats: what counts is the better one."""
    with _searching():
        for layout in ("nhwc", "nchw"):
            call = _torch_call(direction, p, *(_in_format(t, layout) for t in (x, w, dy)))
            # Its sums are exact by whatever torch's own switches say.
            contest.enter(TORCH, "exact", call, None)


def _enter_ours(
    contest: _Contest, plan: Plan, direction: Direction, p: ConvProblem,
    x: Tensor, w: Tensor, dy: Tensor,
) -> None:  # fmt: skip
    """Every CUDA row that takes the problem, and every Triton row in every configuration."""
    from fastconv.triton import choice

    for kernel in registry.kernels(p, direction, device="cuda"):
        if kernel.reason is None and kernel.target != "triton" and _native.has_cuda:
            call = _native_call(kernel.name, direction, p, x, w, dy)
            bound = tolerance.real(p, direction, kernel.numerics)
            contest.enter(kernel.name, kernel.numerics, call, bound)
    for row in _triton.rows():
        refusal, seen = choice.offer(row, p)
        if row.direction != direction or refusal is not None:
            continue
        bound = tolerance.real(p, direction, row.numerics)
        for config in row.configs(seen):
            call = _row_call(row, p, config, x, w, dy)
            if contest.enter(row.name, row.numerics, call, bound):
                plan.configs[row.name] = dataclasses.asdict(config)


def measure(
    direction: Direction,
    p: ConvProblem,
    seconds: Callable[[Callable[[], Tensor]], float] = _seconds,
) -> Plan:
    """Times every kernel that takes the problem, and torch's; keeps and returns the plan.

    A kernel that fails, be it torch's, has no time in the plan, and stands among its faults.

    Args:
        p: the problem, with a padding that torch's convolution has.
        seconds: the clock: the time of a call.

    Raises:
        RuntimeError: where Triton's kernels do not run; where torch has no result in float64; where
            a kernel has left the process without a GPU.
        ValueError: for a problem of uneven or negative padding.
    """
    reason = _triton.why_not()
    if reason is not None:
        raise RuntimeError(f"fastconv.tune: {reason}")
    if min(p.pad_d, p.pad_h, p.pad_w) < 0 or p != p.replace(Z=-1, P=-1, Q=-1):
        raise ValueError(f"problem is {p.encode()}; its padding must be even and at least 0")
    x, w, dy = _operands(p, torch.device(_triton.device_types()[-1]))
    want = _torch_call(direction, p, x.double(), w.double(), dy.double())()
    plan = Plan({}, {}, {})
    contest = _Contest(plan, want, seconds)
    _enter_torch(contest, direction, p, x, w, dy)
    _enter_ours(contest, plan, direction, p, x, w, dy)
    contest.close()
    _plans()[_key(direction, p)] = plan
    _save()
    return plan
