"""Every Triton row compiled for GPUs that are not here, and what its machine code says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

pytest.importorskip("triton")

from fastconv.testing import shapes, triton_rows
from fastconv.triton import aot

#: Bytes of shared memory that a block may have, by compute capability (CUDA C++ Programming Guide,
#: table "Technical Specifications per Compute Capability").
SHARED = {80: 163 << 10, 90: 227 << 10}
SPILLS = 64
ROWS = triton_rows.rows()


@pytest.fixture(scope="module")
def compiled() -> dict[str, list[aot.Compiled]]:
    """What the compiler made of each row, in processes that do not interpret."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    lines = subprocess.run(
        [sys.executable, "-m", "fastconv.triton.aot"],
        env=environment, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    found: dict[str, list[aot.Compiled]] = {}
    for line in lines:
        one = aot.Compiled(**json.loads(line))
        found.setdefault(one.row, []).append(one)
    return found


def of(compiled: dict[str, list[aot.Compiled]], name: str) -> Iterator[aot.Compiled]:
    assert name in compiled, f"no shape of triton.txt reaches {name}: add one"
    yield from compiled[name]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_resources(compiled: dict[str, list[aot.Compiled]], row: triton_rows.Row) -> None:
    capabilities = set()
    for one in of(compiled, row.name):
        capabilities.add(one.capability)
        assert one.stack <= SPILLS, one
        assert one.shared <= SHARED[one.capability], one
        assert one.registers <= 255, one
    assert capabilities == set(aot.CAPABILITIES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_tensor_cores(compiled: dict[str, list[aot.Compiled]], row: triton_rows.Row) -> None:
    """A product on 16-bit numbers or in TF32 is one of tensor cores; float32's is exact, without."""
    for one in of(compiled, row.name):
        if one.uses_dot:
            exact = row.numerics != "tf32" and not one.problem.endswith(("_f16", "_bf16", "_nchw"))
            assert one.tensor_core != exact, one


def test_every_shape_is_compiled(compiled: dict[str, list[aot.Compiled]]) -> None:
    problems = {one.problem.replace("_f16", "") for ones in compiled.values() for one in ones}
    for case in shapes.triton():
        assert case.problem.encode() in problems, case.name
