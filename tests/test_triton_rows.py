"""Every Triton row on every basic shape it takes: by the interpreter, or on a GPU where there is one."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers_triton import quick_interpreter

pytest.importorskip("triton")

from fastconv import families
from fastconv.problem import ConvProblem
from fastconv.problem_text import Problem
from fastconv.registry import Kernel
from fastconv.testing import check, inputs, shapes, triton_rows
from fastconv.triton import choice
from fastconv.words import ACTIVATIONS, ELEMENT_SIZE

ROWS = [
    Kernel(row.name, row.target, row.direction, row.numerics, row.algorithm, None, None, "cuda")
    for row in triton_rows.rows()
]
CASES = shapes.basic()
#: Families that have rows of Triton's.
FAMILIES = [each for each in families.all() if any(row.family == each.name for row in ROWS)]
#: Operations of a problem that is run in dtypes beyond its own, or in many ways.
SMALL = 1_500_000
#: Integers with the full epilogue on a channels-last weight, and reals.
INTEGERS, REALS = check.SETTINGS[1:]
#: The problems of a row in each dtype that is not theirs.
EACH = 3
#: One of so many pairs of row and problem is run on reals too: their order goes through rows, dtypes and shapes.
REALS_EVERY = 5
#: To the interpreter a row of TF32 is its exact twin: it has one of so many problems.
TF32_EVERY = 3


def takes(kernel: Kernel, problem: Problem) -> bool:
    own = families.of(problem).name == kernel.family
    return own and triton_rows.why_not(kernel.name, problem.encode()) is None


def pairs() -> list[Any]:
    """Every row on every shape in the shape's dtype, and on some in the others."""
    found = []
    for kernel in ROWS:
        for dtype in ELEMENT_SIZE:
            own = [case for case in CASES if case.problem.dtype == dtype]
            small = [case for case in CASES if case not in own and case.problem.flops <= SMALL]
            other = [case for case in small if takes(kernel, case.problem.replace(dtype=dtype))]
            cases = own + other[:: -(-len(other) // EACH) or 1]
            for case in cases[:: TF32_EVERY if kernel.numerics == "tf32" else 1]:
                problem = case.problem.replace(dtype=dtype)
                if takes(kernel, problem):
                    name = f"{kernel.name}-{case.name}.{dtype}"
                    found.append(pytest.param(kernel, problem, id=name))
    return found


PAIRS = pairs()
WITH_REALS = [pair for pair in PAIRS if pair.values[0].numerics != "tf32"][::REALS_EVERY]


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """The interpreter without its check of every addition for overflow; `test_one_shape` has it."""
    with quick_interpreter():
        yield


@pytest.mark.parametrize(("kernel", "problem"), PAIRS)
def test_kernel(kernel: Kernel, problem: Problem) -> None:
    """On integers, which are exact whatever the shape; a row of TF32 on reals."""
    setting = REALS if kernel.numerics == "tf32" else INTEGERS
    wrong = check.failure(kernel, problem, setting)
    assert wrong is None, f"{kernel.name} on {problem} with {setting}: {wrong}"


@pytest.mark.parametrize(("kernel", "problem"), WITH_REALS)
def test_reals(kernel: Kernel, problem: Problem) -> None:
    wrong = check.failure(kernel, problem, REALS)
    assert wrong is None, f"{kernel.name} on {problem} with {REALS}: {wrong}"


@functools.cache
def small_problem(kernel: Kernel) -> Problem:
    """The middle one of those with few operations."""
    for dtype in ELEMENT_SIZE:
        problems = [case.problem.replace(dtype=dtype) for case in CASES]
        small = [each for each in problems if 0 < each.flops <= SMALL and takes(kernel, each)]
        if small:
            return sorted(small, key=lambda each: each.flops)[len(small) // 2]
    pytest.fail(f"no small shape of basic.txt reaches {kernel.name}: add one")


@pytest.mark.parametrize("kernel", ROWS, ids=lambda k: k.name)
def test_one_shape(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the interpreter's check that no addition of indices overflows."""
    from triton.runtime import interpreter

    builder = interpreter.interpreter_builder
    checked = dataclasses.replace(builder.options, sanitize_overflow=True)
    monkeypatch.setattr(builder, "options", checked)
    problem = small_problem(kernel)
    wrong = check.failure(kernel, problem, INTEGERS)
    assert wrong is None, f"{kernel.name} on {problem}: {wrong}"


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "kernel",
    [k for k in ROWS if families.named(k.family).has_epilogue(k.direction)],
    ids=lambda k: k.name,
)
def test_activation(kernel: Kernel, activation: str) -> None:
    problem = small_problem(kernel)
    wrong = check.failure(kernel, problem, check.Setting(False, True, activation))
    assert wrong is None, f"{kernel.name} on {problem} with {activation}: {wrong}"


@pytest.mark.parametrize("kernel", ROWS, ids=lambda k: k.name)
def test_every_configuration(kernel: Kernel) -> None:
    """A configuration is chosen by its speed alone: each has to be right."""
    row = choice.find(kernel.name)
    assert row is not None
    problem = small_problem(kernel)
    for config in row.configs(choice.ask(row, problem)[1]):
        with triton_rows.configured(config):
            wrong = check.failure(kernel, problem, check.SETTINGS[0])
        assert wrong is None, f"{kernel.name} on {problem} with {config}: {wrong}"


@pytest.mark.parametrize(
    ("direction", "case"),
    [
        pytest.param(direction, case, id=f"{case.name}-{direction}")
        for family in FAMILIES
        for direction in family.directions
        for case in shapes.basic(family.name)
        # What draws is native, or of torch's ops (ops/own_pool.py).
        if getattr(case.problem, "mode", "") != "sto"
    ],
)
def test_every_problem_has_a_row(case: shapes.Case, direction: str) -> None:
    for dtype in ELEMENT_SIZE:
        problem = case.problem.replace(dtype=dtype)
        row = choice.choose(direction, problem)
        assert row is not None and row.numerics != "tf32"
        exact = choice.choose(direction, problem, "exact", allow_tf32=True)
        assert exact is not None and exact.numerics == "exact"


@pytest.mark.parametrize("direction", ["fprop", "dgrad", "wgrad"])
@pytest.mark.parametrize(
    "text",
    [
        "n1_c16_h19w1_k8_r5s1_st2x1_pd1x0_dl1_g1",
        "n2_c16_d3h4w5_k8_t3r1s1_st1_pd1x0x0_dl1_g1",
        "n1_c16_d2h4w5_k16_t1r3s3_st1_pd0x1x1_dl1_g1_nchw2nhwc",
        "n1_c16_d2h4w5_k16_t1r3s3_st1_pd0x1x1_dl1_g16",
    ],
)
def test_axes_that_carry_nothing(text: str, direction: str) -> None:
    """Rows see them merged or moved inward, and the weight's axes with them."""
    problem = ConvProblem.decode(text)
    seen = {
        kernel.name: choice.ask(choice.find(kernel.name), problem)  # type: ignore[arg-type]
        for kernel in ROWS
        if (kernel.family, kernel.direction) == ("conv", direction)
    }
    taking = [kernel for kernel in ROWS if seen.get(kernel.name, ("", None))[0] is None]
    assert taking and all(seen[kernel.name][1] != problem for kernel in taking)
    for kernel in taking:
        wrong = check.failure(kernel, problem, INTEGERS)
        assert wrong is None, f"{kernel.name} on {problem}: {wrong}"


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize(
    "kernel",
    [k for k in ROWS if k.algorithm in ("grouped", "depthwise") and k.direction != "wgrad"],
    ids=lambda k: k.name,
)
def test_what_is_not_finite_stays_in_its_group(kernel: Kernel, value: float) -> None:
    groups = 8 if kernel.algorithm == "grouped" else 32
    problem = ConvProblem.decode(f"n1_c32_h6w6_k32_r3s3_st1_pd1_dl1_g{groups}")
    if "nchw" in kernel.name:
        problem = problem.replace(x_layout="nchw", y_layout="nchw")
    data = inputs.operands(problem, integers=True)
    source = data.x if kernel.direction == "fprop" else data.dy
    results = []
    for one in (0.0, value):
        source[0, 5, 0, 1, 1] = one
        out = check.run(kernel, problem, data)
        results.append(inputs.from_layout(out, problem.x_layout))
    width = 32 // groups
    own = np.s_[5 // width * width : 5 // width * width + width]
    assert not np.isfinite(results[1][:, own]).all()
    np.testing.assert_array_equal(
        np.delete(results[1], own, 1), np.delete(results[0], own, 1)
    )  # fmt: skip


@pytest.mark.parametrize("kernel", [k for k in ROWS if k.family == "pool"], ids=lambda k: k.name)
def test_maxima_of_what_is_not_finite(kernel: Kernel) -> None:
    """The last NaN of a window wins, the first of equal infinities, and nothing but -inf is its
    first input's; its gradient goes to that input alone.
    """
    if kernel.algorithm == "global":
        texts = ["n2_c5_h1w70_r1s70_st1_pd0_max", "n2_c5_h1w70_r1s70_st1_pd0_max_u8"]
    else:
        texts = ["n2_c5_h7w6_r3s3_st2_pd1_max", "n2_c5_d3h7w6_t2r3s2_st1_pd1x1x1_max_u8"]
    for text in texts:
        p = families.decode(text)
        if "nchw" in kernel.name:
            p = p.replace(x_layout="nchw", y_layout="nchw")
        assert takes(kernel, p)
        data, random = inputs.operands(p, integers=True), np.random.default_rng(0)
        odd = random.choice([np.nan, np.inf, -np.inf, 0.0], data.x.shape, p=[0.05, 0.15, 0.6, 0.2])
        odd[0, 0] = -np.inf
        values = {**data.values, "x": odd, "index": families.named("pool").indices(p, {"x": odd})}
        data = dataclasses.replace(data, values=values)
        given = inputs.stored(p, kernel.direction, data)
        written = families.named("pool").output(kernel.direction)
        beside = families.named("pool").index_of(kernel.direction, p)
        if beside:
            given[beside.name] = inputs.room(beside, p)[1]
        want = families.named("pool").oracle(p, kernel.direction, values)
        have = inputs.load(triton_rows.run(kernel.name, p.encode(), **given), written, p)
        np.testing.assert_array_equal(have, want)
        if beside:
            index = inputs.load(given[beside.name], beside, p)
            np.testing.assert_array_equal(index, values["index"])
