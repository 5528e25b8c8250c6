"""``fastconv.info()``: what is installed, what this machine can run, and why not the rest."""

from __future__ import annotations

import importlib.metadata
import platform

import torch

from fastconv import _cuda, _native, _triton, registry
from fastconv._version import version


def _op_library() -> str:
    """Whether torch has the op library, and why not."""
    if _native.lib is not None:
        return _native.library_path().name
    return f"none, torch's kernels run: {_native.why_not}"


def _gpu() -> str:
    """The GPU whose kernels run, or why there is none."""
    reason = _cuda.why_not()
    if reason is not None:
        return f"none: {reason}"
    capability = _cuda.capability()
    return f"{torch.cuda.get_device_name()}, compute capability {capability / 10:.1f}"


def _triton_version() -> str:
    """The version of triton, and why its kernels do not run."""
    if not _triton.is_installed():
        return "not installed"
    reason = _triton.why_not()
    here = "interpreted on the CPU" if _triton.is_interpreted() else reason or "runs on the gpu"
    return f"{importlib.metadata.version('triton')}, {here}"


def _table(rows: list[registry.Kernel]) -> list[str]:
    width = max((len(row.name) for row in rows), default=0)
    return [
        f"  {row.name:<{width}}  {row.numerics:<11}  {row.reason or 'runs here'}" for row in rows
    ]


def info() -> str:
    """Versions, what was built, instruction set and caches, and every kernel with its reason
    against this machine.

    Returns:
        Text for people: ``print(fastconv.info())``, or ``fastconv info`` on the command line.
    """
    module = registry.core()
    lines = [
        f"fastconv      {version()}",
        f"torch         {torch.__version__}, {torch.get_num_threads()} threads",
        f"python        {platform.python_version()} on {platform.platform(terse=True)}",
        f"op library    {_op_library()}",
        f"_core         {'built' if module else 'not built'}",
    ]
    if module is not None:
        machine = module.machine()
        caches = f"L1 {machine['l1_bytes'] >> 10} KiB, L2 {machine['l2_bytes'] >> 10} KiB"
        lines.append(f"processor     {machine['isa']} on {machine['cores']} cores, {caches}")
    lines += [f"gpu           {_gpu()}", f"triton        {_triton_version()}"]
    on_gpu = registry.kernels(device="cuda")
    for title, rows in (
        ("kernels", registry.kernels()),
        ("CUDA kernels", [row for row in on_gpu if row.target != "triton"]),
        ("Triton kernels", [row for row in on_gpu if row.target == "triton"]),
    ):
        if rows:
            lines += ["", f"{len(rows)} {title}, in the order of choice:", *_table(rows)]
    return "\n".join(lines)
