"""``fastconv.info()``: what is installed, what this machine can run, and why not the rest."""

from __future__ import annotations

import importlib.metadata
import platform

import torch

from fastconv import _native, registry


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
        "",
    ]
    rows = registry.kernels()
    width = max((len(row.name) for row in rows), default=0)
    lines.append(f"{len(rows)} kernels, in the order of choice:")
    lines += [
        f"  {row.name:<{width}}  {row.numerics:<11}  {row.reason or 'runs here'}" for row in rows
    ]
    return "\n".join(lines)
