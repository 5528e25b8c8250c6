"""The branch that users run: without FASTCONV_FALLBACK torch's kernel serves where no row is known to win.

All other tests run with FASTCONV_FALLBACK=error, under which a row serves every valid problem.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_without_the_variable() -> None:
    cases = Path(__file__).with_name("fallback_cases.py")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", str(cases)],
        env={**os.environ, "FASTCONV_FALLBACK": "", "TRITON_INTERPRET": "0"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-6000:]
