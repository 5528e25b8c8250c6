"""What this GPU reaches at most: memory copies, copies inside its L2, and matrix products, by torch.

Prints and writes JSON: GB/s read plus written, TFLOP/s, medians of CUDA-event times.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable

import torch

#: Cycles for which the GPU waits before a sample, while the host queues the sample's calls.
HEAD_START = 2_000_000


def seconds(call: Callable[[], object], samples: int = 50, calls: int = 1) -> float:
    """The median time of one call, on the GPU's own clock, over samples of so many calls."""
    for _ in range(5):
        call()
    times = []
    for _ in range(samples):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(HEAD_START)
        begin.record()
        for _ in range(calls):
            call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e-3 / calls)
    return statistics.median(times)


def copy_rate(megabytes: int, calls: int = 1) -> float:
    """GB/s read plus written by a copy of so many megabytes; samples of so many calls, for copies
    that take no longer than what stands between two events.
    """
    source = torch.empty(megabytes << 20, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / seconds(lambda: target.copy_(source), calls=calls) * 1e-9


def product_rate(dtype: torch.dtype, extent: int = 8192) -> float:
    """TFLOP/s of a square matrix product."""
    a, b = (torch.randn(extent, extent, device="cuda").to(dtype) for _ in range(2))
    return 2 * extent**3 / seconds(lambda: a @ b, 20) * 1e-12


def main() -> int:
    if not torch.cuda.is_available():
        print("ceilings: torch sees no GPU", file=sys.stderr)
        return 1
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    result = {
        "gpu": torch.cuda.get_device_name(),
        "memory_gb_per_s": copy_rate(2048),
        "l2_gb_per_s": copy_rate(8, calls=50),
        "bf16_tflops": product_rate(torch.bfloat16),
        "f16_tflops": product_rate(torch.float16),
        "f32_tflops": product_rate(torch.float32, 4096),
    }
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    result["tf32_tflops"] = product_rate(torch.float32)
    print(json.dumps(result, indent=1))
    if len(sys.argv) > 1:
        with open(sys.argv[1], "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
