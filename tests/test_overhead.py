"""What a call costs beside torch's own on one output: a bound of several times the target, to catch
slips.

`python tests/test_overhead.py` prints the figures; a loaded machine makes a test of the targets
useless.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

import fastconv
import fastconv.functional as ours

SLACK = 2.0  # tests run beside other work


def interleaved(
    calls: list[Callable[[], object]], repeats: int = 15, count: int = 500
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
    found = {}
    for name, weight, limits in (
        ("without grad", w, (1.5, 2.0)),
        ("with grad", trained, (3.0, 2.0)),
    ):
        theirs, own = partial(F.conv2d, x, weight, b), partial(ours.conv2d, x, weight, b)
        own()
        native, called = interleaved([theirs, own])
        found[f"functional {name}"] = called / native, limits[0]
        with fastconv.enabled():
            (under,) = interleaved([theirs])
        found[f"enabled {name}"] = under / native, limits[1]
    torch.set_num_threads(threads)
    return found


def test_overhead() -> None:
    for name, (ratio, target) in ratios().items():
        assert ratio < SLACK * target, f"{name}: {ratio:.2f} times torch's call, target {target}"


if __name__ == "__main__":
    for name, (ratio, target) in ratios().items():
        print(f"{name:<26} {ratio:5.2f} x torch  (target {target})")
