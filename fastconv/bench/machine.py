"""What a measurement was taken on and with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import torch

from fastconv.info import cpu_fact, cpu_name
from fastconv.registry import core


def peak(threads: int) -> float | None:
    """Measured GFLOP/s of float32 multiply-adds on so many threads; None without native kernels."""
    module = core()
    if module is None:
        return None
    before = module.num_threads()
    module.set_threads(threads)
    try:
        return float(module.fma_peak(0.3))
    finally:
        module.set_threads(before)


def facts() -> dict[str, Any]:
    """Processor, instruction set, caches, system."""
    module = core()
    native = module.machine() if module else {}
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        **native,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str | None]:
    """Versions of fastconv and of what it stands on."""
    onednn = re.search(r"(?:MKL-DNN|oneDNN)\S* v([\d.]+)", torch.__config__.show())
    return {
        "fastconv": _version("fastconv"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "oneDNN": onednn[1] if onednn else None,
    }


def commit() -> str | None:
    """The commit of the source tree this package lies in; None for an installed package. `+` marks
    local changes.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
        ).stdout

    try:
        return git("rev-parse", "--short=12", "HEAD").strip() + (
            "+" if git("status", "--porcelain").strip() else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def slug() -> str:
    """The folder of this machine under ``benchmarks/results/``; the family tells processors of one name apart."""
    words = re.sub(r"\(r\)|\(tm\)|cpu|processor|@.*", " ", cpu_name().lower())
    words = re.sub(r"[^a-z0-9]+", "-", words).strip("-")
    isa = facts().get("isa", platform.machine())
    family = cpu_fact("cpu family")
    return "-".join(
        filter(None, (words, family and f"family-{family}", isa, f"{os.cpu_count()}-cores"))
    )
