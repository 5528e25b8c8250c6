"""What this torch and this machine say of CUDA, and torch's switch for TF32."""

from __future__ import annotations

import torch

__all__ = ["allows_tf32", "capability", "why_not"]


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
