"""Measured plans on disk: what was measured for a problem on this GPU, kept and read again.

Plans are kept under FASTCONV_CACHE (default ~/.cache/fastconv), in a file named by GPU and versions.
`fastconv.tune` measures them, `fastconv.plan` chooses by them.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from fastconv import _files
from fastconv._version import version
from fastconv.problem_text import Problem

__all__ = ["TORCH", "Plan", "folder", "forget", "keep", "measured"]

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

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "interpreter"
    return f"{device}; fastconv {version()}; torch {torch.__version__}; triton {triton.__version__}"


def _file() -> Path:
    return folder() / f"plans-{hashlib.sha256(_where().encode()).hexdigest()[:16]}.json"


def _key(direction: str, p: Problem) -> str:
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


def measured(direction: str, p: Problem) -> Plan | None:
    """What was measured for the problem on this GPU; None where nothing was."""
    plans = _plans()
    return plans.get(_key(direction, p)) if plans else None


def keep(direction: str, p: Problem, plan: Plan) -> None:
    """Holds the plan from now on, here and on disk."""
    plans = _plans()
    plans[_key(direction, p)] = plan
    stored = {
        "schema": _SCHEMA,
        "where": _where(),
        "plans": {key: dataclasses.asdict(each) for key, each in plans.items()},
    }
    _files.write_json(_file(), stored)


def forget() -> None:
    """Has the plans read from disk anew."""
    _plans.cache_clear()
