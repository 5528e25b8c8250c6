"""Convolutions, pools and unpools for PyTorch on kernels written by hand.

`fastconv.enable()` puts them under torch's own; `fastconv.functional`, `fastconv.nn` and
`fastconv.convert(model)` call them explicitly. `fastconv.explain(model, x)` says which kernel runs
each layer, `fastconv.info()` what this machine runs.
"""

import warnings

from fastconv import _native, _triton, functional, nn
from fastconv.convert import Report, convert, freeze, revert, unfreeze
from fastconv.enable import disable, enable, enabled, is_enabled
from fastconv.explain import explain
from fastconv.info import info
from fastconv.policy import get_precision, last_kernel, precision, set_precision, use
from fastconv.problem import ConvProblem
from fastconv.registry import kernels

if _native.lib is None:
    warnings.warn(
        f"fastconv: installed without native kernels: {_native.why_not}. On the CPU torch's kernels "
        "compute; CUDA tensors run on "
        + (
            "Triton's kernels" if _triton.is_installed() else "torch's too: triton is not installed"
        ),
        stacklevel=2,
    )

__all__ = [
    "ConvProblem",
    "Report",
    "convert",
    "disable",
    "enable",
    "enabled",
    "explain",
    "freeze",
    "functional",
    "get_precision",
    "info",
    "is_enabled",
    "kernels",
    "last_kernel",
    "nn",
    "precision",
    "revert",
    "set_precision",
    "unfreeze",
    "use",
]
