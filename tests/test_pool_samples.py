"""Pooling on PyTorch's own samples, whose module forbids a process to set torch's flags: in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CASES = str(Path(__file__).with_name("pool_sample_cases.py"))


@pytest.mark.parametrize("cases", ["max_pool", "not max_pool and not unpool", "unpool"])
def test_in_a_process(cases: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", CASES, "-k", cases],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
