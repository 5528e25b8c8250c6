"""With wider instruction sets masked off the narrower rows serve, and are right.

`test_kernels.py` runs the rows of every set that the processor has; here is what goes by the widest set allowed: the
choice, transpositions, fingerprints.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastconv import _core as core
from fastconv import registry

ROOT = Path(__file__).resolve().parents[1]
ORDER = ["cpu", "avx2", "avx512"]
NARROWER = ORDER[: ORDER.index(core.machine()["isa"])]


def python(isa: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"FASTCONV_CPU_ISA": isa}
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("isa", NARROWER)
def test_masked_rows_say_so(isa: str) -> None:
    code = (
        "from fastconv import _core, registry\n"
        "print(_core.machine()['isa'])\n"
        "for row in registry.kernels(): print(row.name, row.target, row.reason)"
    )
    lines = python(isa, "-c", code).stdout.splitlines()
    assert lines[0] == isa
    for line in lines[1:]:
        _, target, reason = line.split(" ", 2)
        if ORDER.index(target) > len(NARROWER):
            assert reason.startswith("this processor has no ")
        elif ORDER.index(target) > ORDER.index(isa):
            assert reason == "masked off by the environment variable FASTCONV_CPU_ISA"
        else:
            assert reason == "None"


@pytest.mark.parametrize("isa", NARROWER)
def test_choice_falls_to_rows_that_run(isa: str) -> None:
    code = (
        "from fastconv import families, registry\nfrom fastconv.testing import check, shapes\n"
        "tables = [family for family in families.all() if registry.kernels(family=family.name)]\n"
        "for family in tables:\n"
        " for case in shapes.basic(family.name):\n"
        "  for direction in family.directions:\n"
        "    row = registry.find(registry.chosen(case.problem, direction))\n"
        "    assert row.reason is None, row\n"
        "    for setting in check.SETTINGS:\n"
        "     wrong = check.failure(row, case.problem, setting)\n"
        "     assert wrong is None, (row.name, case.name, setting, wrong)\n"
        "print('right')"
    )
    done = python(isa, "-c", code)
    assert done.stdout == "right\n", done.stderr


def test_rows_of_every_set_are_run() -> None:
    """`test_kernels.py` has those of the narrower sets too."""
    assert {row.target for row in registry.kernels() if row.reason is None} == {
        *ORDER[: len(NARROWER) + 1]
    }


@pytest.mark.parametrize("isa", NARROWER)
def test_changed_weights_are_seen(isa: str) -> None:
    done = python(isa, "-m", "pytest", "-q", "-x", "tests/test_packing.py", "-k", "element")
    assert done.returncode == 0, done.stdout[-4000:]


def test_an_unknown_isa_is_named() -> None:
    done = python("sse9", "-c", "from fastconv import _core; print(_core.machine()['isa'])")
    assert done.stdout.strip() == ORDER[len(NARROWER)]
    assert "FASTCONV_CPU_ISA='sse9' is not one of cpu, avx2, avx512" in done.stderr
