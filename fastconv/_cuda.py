"""What this torch and this machine say of CUDA, torch's switch for TF32, and work as a graph."""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = ["allows_tf32", "capability", "captured", "is_lost", "why_not"]


def why_not() -> str | None:
    """Why no CUDA kernel can run here, whatever was built; None where one can."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    return None


def capability() -> int:
    """Ten times the major number of the current device's compute capability plus the minor."""
    major, minor = torch.cuda.get_device_capability()
    return 10 * major + minor


def allows_tf32() -> bool:
    """Whether torch lets convolutions on CUDA multiply float32 with the precision of TF32."""
    # The legacy switch, cudnn.allow_tf32, can raise where the new one was set.
    return bool(torch.backends.cudnn.conv.fp32_precision == "tf32")  # type: ignore[attr-defined]


def is_lost() -> bool:
    """Whether an earlier error, such as an illegal address, has left this process without its GPU."""
    if why_not() is not None:
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def captured(body: Callable[[], object]) -> Callable[[], None]:
    """The GPU's work of ``body`` as a graph: replaying it takes the host next to no time.

    Raises:
        RuntimeError: where ``body`` does what no graph can hold, or fails.
    """
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        body()  # what a first call sets up cannot be captured
        side.synchronize()
        graph.capture_begin()
        try:
            body()
        finally:
            graph.capture_end()
    torch.cuda.current_stream().wait_stream(side)
    return graph.replay
