"""Measured plans: how long each kernel takes for a problem on this GPU, kept on disk.

`measure` times the CUDA kernels, Triton's in every configuration, and torch's own. A kernel is timed
only after its result matched torch's in float64. What it found is kept under FASTCONV_CACHE (default
~/.cache/fastconv), in a file named by GPU and versions, and is used from then on by whatever chooses:
a measurement stands above all heuristics.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastconv import _native, _triton, reference, registry
from fastconv.problem import ConvProblem, Direction
from fastconv.tensors import DTYPES
from fastconv.testing import tolerance
from fastconv.testing.tolerance import Tolerance

if TYPE_CHECKING:
    from fastconv.triton import Config, Row

__all__ = ["TORCH", "Plan", "config_for", "measure", "measured"]

#: The name of torch's own kernel among the measured.
TORCH = "torch"
_SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Plan:
    """What was measured for a problem.

    Attributes:
        microseconds: of each kernel that was right, at its best configuration, and of `TORCH`.
        numerics: what the sums of each are worth.
        configs: the best configuration of each of Triton's kernels.
    """

    microseconds: dict[str, float]
    numerics: dict[str, str]
    configs: dict[str, dict[str, Any]]


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
    """Writes the plans so that a reader sees the old file or the new one, whole."""
    stored = {
        "schema": _SCHEMA,
        "where": _where(),
        "plans": {key: dataclasses.asdict(plan) for key, plan in _plans().items()},
    }
    folder().mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=folder(), suffix=".json", delete=False, encoding="utf-8"
    ) as file:
        json.dump(stored, file, indent=1)
    os.replace(file.name, _file())
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


def _operands(p: ConvProblem, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """x, w and dy of the problem with uniform values, [N, C, D, H, W] and so on, in its layouts."""
    generator = torch.Generator(device=device).manual_seed(0)
    dtype = next(dtype for dtype, name in DTYPES.items() if name == p.dtype)

    def draw(sizes: tuple[int, ...], layout: str) -> Tensor:
        t = torch.rand(sizes, generator=generator, device=device, dtype=torch.float32) * 2 - 1
        last = torch.channels_last_3d if layout == "nhwc" else torch.contiguous_format
        return t.to(dtype).contiguous(memory_format=last)

    return (
        draw((p.N, p.C, p.D, p.H, p.W), p.x_layout),
        draw((p.K, p.C_per_group, p.T, p.R, p.S), p.x_layout),
        draw((p.N, p.K, p.Z, p.P, p.Q), p.y_layout),
    )


def _geometry(p: ConvProblem) -> tuple[list[int], list[int], list[int], int]:
    return (
        [p.stride_d, p.stride_h, p.stride_w],
        [p.pad_d, p.pad_h, p.pad_w],
        [p.dilation_d, p.dilation_h, p.dilation_w],
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
    """torch's own kernel for the direction."""
    geometry = _geometry(p)
    if direction == "fprop":
        return lambda: reference.conv(x, w, None, *geometry)
    if direction == "dgrad":
        return lambda: reference.conv_dgrad(dy, w, x.shape, *geometry)
    return lambda: reference.conv_wgrad(dy, x, w.shape, w.stride(), *geometry)


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
    """Median time of a call on the current GPU, in seconds."""
    from triton.testing import do_bench

    return float(do_bench(call, return_mode="median")) * 1e-3


def _is_right(call: Callable[[], Tensor], want: Tensor, bound: Tolerance) -> bool:
    """Whether a call's result is inside the bound; one that cannot run is not."""
    try:
        have = call()
    except Exception:  # a configuration that this GPU has no room for
        return False
    return not bound.violations(have.double().cpu().numpy(), want.cpu().numpy()).any()


def measure(
    direction: Direction,
    p: ConvProblem,
    seconds: Callable[[Callable[[], Tensor]], float] = _seconds,
) -> Plan:
    """Times every kernel that takes the problem, and torch's; keeps and returns the plan.

    Args:
        p: the problem, with a padding that torch's convolution has.
        seconds: the clock: the time of a call.

    Raises:
        RuntimeError: where Triton's kernels do not run.
        ValueError: for a problem of uneven or negative padding.
    """
    reason = _triton.why_not()
    if reason is not None:
        raise RuntimeError(f"fastconv.tune: {reason}")
    if min(p.pad_d, p.pad_h, p.pad_w) < 0 or p != p.replace(Z=-1, P=-1, Q=-1):
        raise ValueError(f"problem is {p.encode()}; its padding must be even and at least 0")
    from fastconv.triton import choice

    device = torch.device(_triton.device_types()[-1])
    x, w, dy = _operands(p, device)
    want = _torch_call(direction, p, x.double(), w.double(), dy.double())()
    plan = Plan({}, {}, {})

    def time(name: str, numerics: str, call: Callable[[], Tensor]) -> bool:
        """Whether the call was right, and faster than the kernel's calls before it."""
        if not _is_right(call, want, tolerance.real(p, direction, numerics)):
            return False
        taken = seconds(call) * 1e6
        if taken >= plan.microseconds.get(name, float("inf")):
            return False
        plan.microseconds[name], plan.numerics[name] = taken, numerics
        return True

    plan.microseconds[TORCH] = seconds(_torch_call(direction, p, x, w, dy)) * 1e6
    plan.numerics[TORCH] = "exact"  # by whatever torch's own switches say
    for kernel in registry.kernels(p, direction, device="cuda"):
        if kernel.reason is None and kernel.target != "triton" and _native.has_cuda:
            time(kernel.name, kernel.numerics, _native_call(kernel.name, direction, p, x, w, dy))
    for row in _triton.rows():
        refusal, seen = choice.offer(row, p)
        if row.direction != direction or refusal is not None:
            continue
        for config in row.configs(seen):
            if time(row.name, row.numerics, _row_call(row, p, config, x, w, dy)):
                plan.configs[row.name] = dataclasses.asdict(config)
    _plans()[_key(direction, p)] = plan
    _save()
    return plan
