"""Every CUDA row, run thread by thread on the CPU: right, complete, and inside its arrays.

`kernel_test_cuda_on_cpu` runs every row on every shape of cuda.txt and pool.txt; here each has a handful, through
the same choice, transposition and workspace as a call of torch's.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import families, registry
from fastconv.problem import ConvProblem
from fastconv.problem_text import Problem
from fastconv.testing import check, inputs, shapes
from fastconv.words import ACTIVATIONS, ELEMENT_SIZE

core = registry.module("cuda_on_cpu")
ROWS = registry.kernels(device="cuda_on_cpu")
#: Families that have CUDA rows.
FAMILIES = [each for each in families.all() if any(row.family == each.name for row in ROWS)]
CASES = {family.name: shapes.cuda(family.name) for family in FAMILIES}
LARGEST = 1_500_000  # operations of a problem that a CPU runs thread by thread in a blink
EACH = 4  # problems of a row


def table(family: str) -> registry.Table:
    found = registry.table(family, "cuda_on_cpu")
    assert found is not None
    return found


def takes(kernel: registry.Kernel, problem: Problem) -> bool:
    return table(kernel.family).why_not(kernel.name, problem.encode()) is None


def taken(kernel: registry.Kernel, dtype: str) -> list[shapes.Case]:
    cases = CASES[kernel.family]
    return [case for case in cases if takes(kernel, case.problem.replace(dtype=dtype))]


def pairs() -> list[object]:
    found = []
    for kernel in ROWS:
        for dtype in ELEMENT_SIZE:
            cases = [case for case in taken(kernel, dtype) if case.problem.flops <= LARGEST]
            for case in cases[:: max(1, -(-len(cases) // EACH))]:
                problem = case.problem.replace(dtype=dtype)
                found.append(pytest.param(kernel, problem, id=f"{kernel.name}-{case.name}.{dtype}"))
    return found


def first_problem(kernel: registry.Kernel) -> Problem:
    for dtype in ELEMENT_SIZE:
        for case in taken(kernel, dtype):
            if 0 < case.problem.flops <= LARGEST:
                return case.problem.replace(dtype=dtype)
    pytest.fail(f"no small shape for CUDA reaches {kernel.name}: add one")


@pytest.mark.parametrize(("kernel", "problem"), pairs())
def test_kernel(kernel: registry.Kernel, problem: Problem) -> None:
    for seed, setting in enumerate(check.SETTINGS):
        core.set_seed(seed)
        wrong = check.failure(kernel, problem, setting)
        assert wrong is None, f"{kernel.name} on {problem} with {setting}: {wrong}"


@pytest.mark.parametrize("kernel", ROWS, ids=lambda k: k.name)
def test_every_row_is_reached(kernel: registry.Kernel) -> None:
    assert any(taken(kernel, dtype) for dtype in ELEMENT_SIZE), (
        f"no shape for CUDA reaches {kernel.name}: add one"
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "kernel",
    [k for k in ROWS if families.named(k.family).has_epilogue(k.direction)],
    ids=lambda k: k.name,
)
def test_activation(kernel: registry.Kernel, activation: str) -> None:
    problem = first_problem(kernel)
    wrong = check.failure(kernel, problem, check.Setting(False, True, activation))
    assert wrong is None, f"{kernel.name} on {problem} with {activation}: {wrong}"


@pytest.mark.parametrize("kernel", ROWS, ids=lambda k: k.name)
def test_the_order_of_threads_does_not_change_the_answer(kernel: registry.Kernel) -> None:
    """No sum depends on which block or thread comes first."""
    problem = first_problem(kernel)
    data = inputs.operands(problem, integers=False)
    results = []
    for seed in (1, 2):
        core.set_seed(seed)
        results.append(check.run(kernel, problem, data))
    np.testing.assert_array_equal(results[0].view(np.uint8), results[1].view(np.uint8))


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("taps", ["r3s3_st1_pd1", "r3s3_st2_pd1", "r5s5_st1_pd2", "r5s5_st2_pd2"])
@pytest.mark.parametrize(
    "kernel",
    [k for k in ROWS if k.algorithm == "grouped" and k.direction != "wgrad"],
    ids=lambda k: k.name,
)
def test_what_is_not_finite_stays_in_its_group(
    kernel: registry.Kernel, taps: str, value: float
) -> None:
    """With 4 channels a group, two groups share the products of tensor cores."""
    dtype = "f32" if kernel.numerics == "tf32" else "f16"
    problem = ConvProblem.decode(f"n1_c32_h6w6_k32_{taps}_dl1_g8").replace(dtype=dtype)
    data = inputs.operands(problem, integers=True)
    source = data.x if kernel.direction == "fprop" else data.dy
    results = []
    for one in (0, value):
        source[0, 5, 0, 1, 1] = one
        results.append(check.run(kernel, problem, data))
    finite, other = results
    assert not np.isfinite(other[..., 4:8]).all()
    np.testing.assert_array_equal(
        np.delete(other, np.s_[4:8], -1), np.delete(finite, np.s_[4:8], -1)
    )


@pytest.mark.parametrize("indexed", [True, False], ids=["indexed", "plain"])
@pytest.mark.parametrize("dtype", ["f32", "f16"])
@pytest.mark.parametrize(
    "kernel",
    [k for k in ROWS if (k.family, k.direction) == ("pool", "fprop")],
    ids=lambda k: k.name,
)
def test_maxima_of_what_is_no_number(kernel: registry.Kernel, dtype: str, indexed: bool) -> None:
    """NaN wins and of several the last; of windows of nothing but -inf, and of 0 and -0, the first."""
    family, random = families.named("pool"), np.random.default_rng(2)
    values = np.array([np.nan, -np.inf, -np.inf, -np.inf, np.inf, -0.0, 0.0, -1.0])
    cases = [case.problem.replace(dtype=dtype) for case in CASES["pool"]]
    cases = [p for p in cases if p.mode == "max" and p.N and takes(kernel, p)]
    assert cases
    for p in cases[::3]:
        for odds in (0.02, 0.6):
            chosen = random.random(p.extents("x")) < odds
            x = np.where(chosen, random.choice(values, p.extents("x")), -np.inf)
            given = {"x": inputs.store(x, family.operands["fprop"][0], p)}
            if indexed:
                index = family.index_of("fprop", p)
                given["index"] = inputs.room(index, p)[1]
            out = table("pool").run(kernel.name, p.encode(), **given)
            y = inputs.load(out, family.output("fprop"), p)
            np.testing.assert_array_equal(y, family.oracle(p, "fprop", {"x": x}), str(p))
            if indexed:
                have = inputs.load(given["index"], index, p)
                np.testing.assert_array_equal(have, family.indices(p, {"x": x}), str(p))


@pytest.mark.parametrize("dtype", ELEMENT_SIZE)
@pytest.mark.parametrize("extents", [(1, 7, 5), (2, 33, 31), (3, 32, 64)])
def test_other_layouts_are_transposed(extents: tuple[int, int, int], dtype: str) -> None:
    """A row that takes channels last alone gives the same answer on channels first."""
    N, C, W = extents
    problem = ConvProblem(
        N=N, C=C, H=2, W=W, K=8, dtype=dtype, x_layout="nchw", y_layout="nchw"
    )  # fmt: skip
    text, own = problem.encode(), table("conv")
    transposing = [
        kernel
        for kernel in ROWS
        if kernel.family == "conv"
        and takes(kernel, problem)
        and own.seen_by(kernel.name, text) != text
    ]
    assert transposing
    for kernel in transposing:
        for setting in check.SETTINGS:
            wrong = check.failure(kernel, problem, setting)
            assert wrong is None, f"{kernel.name} on {problem} with {setting}: {wrong}"


@pytest.mark.parametrize(
    ("direction", "case"),
    [
        pytest.param(direction, case, id=f"{case.name}-{direction}")
        for family in FAMILIES
        for direction in family.directions
        for case in CASES[family.name]
    ],
)
def test_choice(case: shapes.Case, direction: str) -> None:
    """A GPU of 8.0 takes no sm90a row; without TF32 none of its rows; the reference always serves."""
    numerics = {row.name: row.numerics for row in ROWS}
    rows = table(families.of(case.problem).name)
    for capability, allow_tf32 in ((80, True), (90, False), (100, True)):
        told = {"capability": capability, "allow_tf32": allow_tf32}
        for dtype in ELEMENT_SIZE:
            text = case.problem.replace(dtype=dtype).encode()
            name = rows.choose(direction, text, **told)
            assert rows.why_not(name, text, **told) is None
            assert capability == 90 or not name.endswith("sm90a")
            assert allow_tf32 or numerics[name] != "tf32"
            exact = rows.choose(direction, text, "exact", **told)
            assert numerics[exact] == "exact"
    assert rows.choose(direction, case.problem.encode(), capability=75) is None


def test_the_device_speaks_first() -> None:
    for row in ROWS:
        rows, text = table(row.family), CASES[row.family][0].problem.encode()
        assert "compute capability is below 8.0" in rows.why_not(
            row.name, text, capability=75
        ) or row.target == "sm90a"  # fmt: skip
        if row.target == "sm90a":
            assert "is not 9.0" in rows.why_not(row.name, text, capability=100)
