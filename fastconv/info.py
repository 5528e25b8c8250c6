"""``fastconv.info()``: what is installed, what this machine can run, and why not the rest."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import textwrap
from pathlib import Path

import torch

from fastconv import _cuda, _native, _triton, registry
from fastconv._version import version

#: Of a screen; the list of rows may be wider.
_WIDTH = 100


def cpu_fact(name: str) -> str | None:
    """A line of /proc/cpuinfo, where there is one."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else None


def cpu_name() -> str:
    """The processor by its own name."""
    return cpu_fact("model name") or platform.processor() or platform.machine()


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


def _fact(name: str, text: str, most: int) -> list[str]:
    """A named fact on so many lines of `_WIDTH` columns at most."""
    indent = " " * 14
    return textwrap.wrap(
        text, _WIDTH, initial_indent=f"{name:<13} ", subsequent_indent=indent,
        max_lines=most, placeholder=" ...", break_on_hyphens=False,
    )  # fmt: skip


def _processor() -> str:
    """Its name, instruction set, cores and caches, as far as they are known."""
    module = registry.core()
    if module is None:
        return f"{cpu_name()}; no native module, so its caches were not read"
    machine = module.machine()
    caches = f"L1 {machine['l1_bytes'] >> 10} KiB, L2 {machine['l2_bytes'] >> 10} KiB"
    return f"{cpu_name()}, {machine['isa']} on {machine['cores']} cores, {caches}"


def _kinds() -> dict[str, list[registry.Kernel]]:
    """The kernels by family and by what they run on, each in the order of choice."""
    found: dict[str, list[registry.Kernel]] = {}
    for row in (*registry.kernels(), *registry.kernels(device="cuda")):
        kind = {"cpu": "CPU", "cuda": "CUDA"}[row.device] if row.target != "triton" else "Triton"
        found.setdefault(f"{row.name.split('_')[0]} {kind}", []).append(row)
    return found


def _count(rows: list[registry.Kernel]) -> str:
    """How many of the kernels run here, and where none does, why the first does not."""
    runs = sum(row.reason is None for row in rows)
    return f"{runs} of {len(rows)} run here" + ("" if runs else f": {rows[0].reason}")


def info(rows: bool = False) -> str:
    """Versions, processor and caches, GPU, and how many kernels run here; a screen of text.

    Args:
        rows: every kernel as well, with its class, and the reason why it does not run here.

    Returns:
        Text for people: ``print(fastconv.info())``, or ``fastconv info`` on the command line.
    """
    facts = {
        "fastconv": version(),
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
        "python": f"{platform.python_version()} on {platform.platform(terse=True)}",
        "op library": _op_library(),
        "_core": "built" if registry.core() else "not built",
        "processor": _processor(),
        "gpu": _gpu(),
        "triton": _triton_version(),
    }
    kinds = _kinds()
    lines = [line for name, text in facts.items() for line in _fact(name, text, most=2)]
    lines += ["", "kernels, by family and what they run on:"]
    lines += [line for name, own in kinds.items() for line in _fact(name, _count(own), most=1)]
    if not kinds:
        lines.append("none: torch's run")
    if not rows:
        return "\n".join(
            [*lines, "", "fastconv info --rows lists each, and why it does not run here"]
        )
    for name, own in kinds.items():
        lines += ["", f"{len(own)} kernels of {name}, in the order of choice:", *_table(own)]
    return "\n".join(lines)
