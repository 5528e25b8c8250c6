"""<conv(x, w), dy> = <x, dgrad(dy, w)> = <w, wgrad(x, dy)> for every row, exactly: on integers sums
have no error.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import _core as core
from fastconv import registry
from fastconv.problem import ConvProblem
from fastconv.testing import inputs, reference, shapes, tolerance

CASES = [
    case
    for case in shapes.basic() + shapes.caches()
    if case.problem.dtype in ("f32", "f64") and case.problem.N
]
UNIT_STRIDE = [
    case
    for case in CASES
    if (case.problem.stride_d, case.problem.stride_h, case.problem.stride_w) == (1, 1, 1)
]
RUNNABLE = [kernel for kernel in registry.kernels() if kernel.reason is None]


def run(kernel: registry.Kernel, p: ConvProblem, data: inputs.Operands) -> float:
    """The inner product that ``kernel``'s result gives."""
    x = inputs.to_layout(inputs.to_bits(data.x, p.dtype), p.x_layout)
    dy = inputs.to_layout(inputs.to_bits(data.dy, p.dtype), p.y_layout)
    w = inputs.to_bits(data.w, p.dtype)
    if kernel.direction == "wgrad":
        return float(
            (core.wgrad(kernel.name, p.encode(), x, dy).reshape(data.w.shape) * data.w).sum()
        )
    if kernel.direction == "fprop":
        y = core.fprop(kernel.name, p.encode(), x, w)
        return float((y.reshape(dy.shape).astype(float) * dy).sum())
    dx = core.dgrad(kernel.name, p.encode(), dy, w)
    return float((dx.reshape(x.shape).astype(float) * x).sum())


@pytest.mark.parametrize("kernel", RUNNABLE, ids=lambda kernel: kernel.name)
def test_adjoint(kernel: registry.Kernel) -> None:
    for case in CASES:
        p = case.problem
        if core.why_not(kernel.name, p.encode()):
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
    a = ConvProblem.decode(core.adjoint(p.encode()))
    data = inputs.operands(p, integers=True, seed=5)
    turned = data.w.reshape(p.groups, p.K_per_group, p.C_per_group, p.T, p.R, p.S)[
        ..., ::-1, ::-1, ::-1
    ]
    turned = turned.swapaxes(1, 2).reshape(p.C, p.K_per_group, p.T, p.R, p.S)
    np.testing.assert_array_equal(
        reference.fprop(a, data.dy, turned), reference.dgrad(p, data.dy, data.w)
    )
