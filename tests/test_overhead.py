"""What a call costs beside torch's own on one output.

`python tests/test_overhead.py` prints the figures. A busy machine measures too much, never too little: a
figure counts as missed only where several measurements all miss it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

import fastconv
import fastconv.functional as ours
from fastconv.ops.conv import geometry_id
from fastconv.ops.formulas import Geometry

SLACK = 1.3
ATTEMPTS = 6


def interleaved(
    calls: list[Callable[[], object]], repeats: int = 40, count: int = 50
) -> list[float]:
    """The least seconds per call of each, measured in turn."""
    best = [float("inf")] * len(calls)
    for _ in range(repeats):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            for _ in range(count):
                call()
            best[i] = min(best[i], (time.perf_counter() - start) / count)
    return best


def ratios() -> dict[str, tuple[float, float]]:
    """Ratio to torch's call, and the target, by name."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    x, w, b = torch.randn(1, 1, 3, 3), torch.randn(1, 1, 3, 3), torch.randn(1)
    trained = w.clone().requires_grad_()
    layer = fastconv.nn.Conv2d(1, 1, 3).eval().requires_grad_(False)
    number = geometry_id(Geometry((1, 1), (0, 0), (1, 1), 1))
    short = torch.ops.fastconv._conv.default._op
    plain, recorded = partial(F.conv2d, x, w, b), partial(F.conv2d, x, trained, b)
    calls = {
        "own op": (partial(short, x, w, b, number), plain, 1.4),
        "functional without gradients": (partial(ours.conv2d, x, w, b), plain, 1.5),
        "functional with gradients": (partial(ours.conv2d, x, trained, b), recorded, 3.0),
        "layer in eval": (partial(layer, x), plain, 1.5),
    }
    found = {}
    for name, (call, theirs, target) in calls.items():
        call()
        native, called = interleaved([theirs, call])
        found[name] = called / native, target
    fastconv.disable()
    (before,) = interleaved([plain])
    fastconv.enable()
    (enabled,) = interleaved([plain])
    fastconv.disable()
    (after,) = interleaved([plain])
    found["under enable()"] = enabled / before, 1.6
    found["after disable()"] = after / before, 1.05
    torch.set_num_threads(threads)
    return found


def test_overhead() -> None:
    least: dict[str, float] = {}
    targets: dict[str, float] = {}
    for _ in range(ATTEMPTS):
        for name, (ratio, target) in ratios().items():
            least[name] = min(ratio, least.get(name, ratio))
            targets[name] = target
        if all(least[name] < SLACK * target for name, target in targets.items()):
            return
    missed = {name: ratio for name, ratio in least.items() if ratio >= SLACK * targets[name]}
    raise AssertionError(f"times torch's call: {missed}; targets {targets}")


if __name__ == "__main__":
    for name, (ratio, target) in ratios().items():
        print(f"{name:<30} {ratio:5.2f} x torch  (target {target})")
