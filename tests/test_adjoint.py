"""<conv(x, w), dy> = <x, dgrad(dy, w)> = <w, wgrad(x, dy)> for every row, exactly: on integers sums
have no error.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import registry
from fastconv.families import conv as reference
from fastconv.problem import ConvProblem
from fastconv.testing import check, inputs, shapes, tolerance

CASES = [
    case
    for case in shapes.basic("conv") + shapes.caches("conv")
    if case.problem.dtype in ("f32", "f64") and case.problem.N
]
UNIT_STRIDE = [
    case
    for case in CASES
    if (case.problem.stride_d, case.problem.stride_h, case.problem.stride_w) == (1, 1, 1)
]
CORE = registry.table("conv")
RUNNABLE = [kernel for kernel in registry.kernels(family="conv") if kernel.reason is None]


def run(kernel: registry.Kernel, p: ConvProblem, data: inputs.Operands) -> float:
    """The inner product that ``kernel``'s result gives."""
    out = check.run(kernel, p, data)
    if kernel.direction == "wgrad":
        return float((out.reshape(data.w.shape) * data.w).sum())
    side, other = ("y", data.dy) if kernel.direction == "fprop" else ("x", data.x)
    other = inputs.to_layout(other, p.layout(side))
    return float((out.reshape(other.shape).astype(float) * other).sum())


@pytest.mark.parametrize("kernel", RUNNABLE, ids=lambda kernel: kernel.name)
def test_adjoint(kernel: registry.Kernel) -> None:
    for case in CASES:
        p = case.problem
        if CORE.why_not(kernel.name, p.encode()):
            continue
        data = inputs.operands(p, integers=True, seed=3)
        want = float((reference.fprop(p, data.x, data.w) * data.dy).sum())
        bound = tolerance.real(p, kernel.direction, kernel.numerics, data.largest**2, blocked=True)
        exact = kernel.numerics != "winograd_f4"
        size = np.sqrt(data.dy.size if kernel.direction == "fprop" else data.x.size)
        assert abs(run(kernel, p, data) - want) <= (
            0 if exact else bound.atol * size * data.largest
        ), case.name


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_oracle_is_its_own_adjoint(case: shapes.Case) -> None:
    p = case.problem
    data = inputs.operands(p, integers=True, seed=4)
    forward = (reference.fprop(p, data.x, data.w) * data.dy).sum()
    assert forward == (reference.dgrad(p, data.dy, data.w) * data.x).sum()
    assert forward == (reference.wgrad(p, data.x, data.dy) * data.w).sum()


@pytest.mark.parametrize("case", UNIT_STRIDE, ids=lambda case: case.name)
def test_adjoint_problem(case: shapes.Case) -> None:
    """With unit stride, dgrad is the fprop of the adjoint problem with the filter turned."""
    p = case.problem
    a = ConvProblem.decode(CORE.adjoint(p.encode()))
    data = inputs.operands(p, integers=True, seed=5)
    turned = data.w.reshape(p.groups, p.K_per_group, p.C_per_group, p.T, p.R, p.S)[
        ..., ::-1, ::-1, ::-1
    ]
    turned = turned.swapaxes(1, 2).reshape(p.C, p.K_per_group, p.T, p.R, p.S)
    np.testing.assert_array_equal(
        reference.fprop(a, data.dy, turned), reference.dgrad(p, data.dy, data.w)
    )
