"""``fastconv.info()``: what is installed, what this machine can run, and why not the rest."""

from __future__ import annotations

import importlib.metadata
import platform

import torch

from fastconv import _cuda, _native, registry


def version() -> str:
    """fastconv's version; "unknown" where it was not installed."""
    try:
        return importlib.metadata.version("fastconv")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


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
    if module is None:
        return "\n".join(lines)
    machine = module.machine()
    caches = f"L1 {machine['l1_bytes'] >> 10} KiB, L2 {machine['l2_bytes'] >> 10} KiB"
    lines += [
        f"processor     {machine['isa']} on {machine['cores']} cores, {caches}",
        f"gpu           {_gpu()}",
        "",
    ]
    rows = registry.kernels()
    lines.append(f"{len(rows)} kernels, in the order of choice:")
    lines += _table(rows)
    rows = registry.kernels(device="cuda")
    lines += ["", f"{len(rows)} CUDA kernels, in the order of choice:"]
    lines += _table(rows)
    return "\n".join(lines)
