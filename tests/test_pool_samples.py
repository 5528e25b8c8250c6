"""Pooling on PyTorch's own samples, whose module forbids a process to set torch's flags: in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CASES = str(Path(__file__).with_name("pool_sample_cases.py"))


def test_in_a_process() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", CASES],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
