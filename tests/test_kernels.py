"""Every row on every basic shape it takes, in every dtype it takes: right, complete, and inside its
arrays.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import _core as core
from fastconv import families, registry
from fastconv.problem import ConvProblem
from fastconv.problem_text import Problem
from fastconv.testing import check, inputs, shapes
from fastconv.words import ACTIVATIONS, ELEMENT_SIZE

RUNNABLE = [kernel for kernel in registry.kernels() if kernel.reason is None]
WITH_EPILOGUE = [k for k in RUNNABLE if families.named(k.family).has_epilogue(k.direction)]
CASES = {
    family.name: shapes.basic(family.name) + shapes.caches(family.name) for family in families.all()
}
CONV = registry.table("conv")


def takes(kernel: registry.Kernel, problem: Problem) -> bool:
    return registry.table(kernel.family).why_not(kernel.name, problem.encode()) is None


def first_problem(kernel: registry.Kernel) -> Problem:
    for case in CASES[kernel.family]:
        if case.problem.N and takes(kernel, case.problem):
            return case.problem
    pytest.fail(f"no basic shape reaches {kernel.name}: add one")


def pairs() -> list[object]:
    found = []
    for kernel in RUNNABLE:
        for case in CASES[kernel.family]:
            dtypes = ELEMENT_SIZE if case.problem.dtype == "f32" else [case.problem.dtype]
            for dtype in dtypes:
                problem = case.problem.replace(dtype=dtype)
                if takes(kernel, problem):
                    name = case.name if dtype == case.problem.dtype else f"{case.name}.{dtype}"
                    found.append(pytest.param(kernel, problem, id=f"{kernel.name}-{name}"))
    return found


@pytest.mark.parametrize(("kernel", "problem"), pairs())
def test_kernel(kernel: registry.Kernel, problem: Problem) -> None:
    for setting in check.SETTINGS:
        wrong = check.failure(kernel, problem, setting)
        assert wrong is None, f"{kernel.name} on {problem} with {setting}: {wrong}"


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kernel", WITH_EPILOGUE, ids=lambda k: k.name)
def test_activation(kernel: registry.Kernel, activation: str) -> None:
    problem = first_problem(kernel)
    wrong = check.failure(kernel, problem, check.Setting(False, True, activation))
    assert wrong is None, f"{kernel.name} on {problem} with {activation}: {wrong}"


@pytest.mark.parametrize("empty", [{"C": 0}, {"K": 0}], ids=["no_inputs", "no_outputs"])
@pytest.mark.parametrize(
    "kernel", [k for k in RUNNABLE if k.family == "conv"], ids=lambda k: k.name
)
def test_a_weight_without_elements_is_for_the_reference(
    kernel: registry.Kernel, empty: dict[str, int]
) -> None:
    problem = ConvProblem(N=2, C=8, H=6, W=5, K=8, R=3, S=3, pad_h=1, pad_w=1).replace(**empty)
    if not kernel.name.endswith("_ref"):
        assert not takes(kernel, problem)
        return
    wrong = check.failure(kernel, problem, check.SETTINGS[0])
    assert wrong is None, f"{kernel.name} on {problem}: {wrong}"


@pytest.mark.parametrize("kernel", RUNNABLE, ids=lambda k: k.name)
def test_keeps_nan(kernel: registry.Kernel) -> None:
    """A NaN in an input reaches the outputs that read it, through ReLU as well."""
    problem = first_problem(kernel)
    family = families.named(kernel.family)
    data = inputs.operands(problem, integers=False)
    for each in family.inputs(kernel.direction):
        if each.kind == "activation":
            data.values[each.name][...] = np.nan
    relu = {"activation": "relu"} if family.has_epilogue(kernel.direction) else {}
    assert np.isnan(check.run(kernel, problem, data, **relu)).any()


@pytest.mark.parametrize(
    "case",
    [c for c in CASES["conv"] if c.problem.dtype in ("f32", "f64")],
    ids=lambda c: c.name,
)
def test_bias_grad(case: shapes.Case) -> None:
    problem = case.problem
    data = inputs.operands(problem, integers=True)
    dy = inputs.to_layout(inputs.to_bits(data.dy, problem.dtype), problem.y_layout)
    want = data.dy.sum((0, 2, 3, 4))
    np.testing.assert_array_equal(CONV.bias_grad(problem.encode(), dy), want)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_change_the_answer(threads: int) -> None:
    problem = ConvProblem(N=2, C=16, H=11, W=9, K=24, R=3, S=3, pad_h=1, pad_w=1)
    data = inputs.operands(problem, integers=False)
    rows = [kernel for kernel in RUNNABLE if kernel.family == "conv" and takes(kernel, problem)]

    def results() -> dict[str, np.ndarray]:
        return {kernel.name: check.run(kernel, problem, data) for kernel in rows}

    before = core.num_threads()
    try:
        core.set_threads(1)
        want = results()
        core.set_threads(threads)
        for name, have in results().items():
            problem_bound = 1e-5 if "wgrad" in name else 0
            np.testing.assert_allclose(
                have, want[name], rtol=problem_bound, atol=problem_bound, err_msg=name
            )
    finally:
        core.set_threads(before)


def fprop(kernel: str, problem: str, x: object, w: object, **options: object) -> object:
    return CONV.run(kernel, problem, direction="fprop", x=x, w=w, **options)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda p, x, w: fprop("conv_fprop_nope", p, x, w), "kernel is 'conv_fprop_nope'"),
        (
            lambda p, x, w: fprop("conv_dgrad_ref", p, x, w),
            "conv_dgrad_ref computes dgrad, not fprop",
        ),
        (lambda p, x, w: fprop("auto", p, x[:1], w), r"x has shape \(1, 6, 6, 8\)"),
        (
            lambda p, x, w: fprop("auto", p, x.astype("d"), w),
            "x has dtype float64; it must be float32",
        ),
        (lambda p, x, w: fprop("auto", p, x.transpose(0, 2, 1, 3), w), "x is not contiguous"),
        (lambda p, x, w: fprop("auto", p, x, w[:, :4]), r"w has shape \(8, 4, 3, 3\)"),
        (lambda p, x, w: fprop("auto", p, x, w, scale=x), "scale has shape"),
        (lambda p, x, w: fprop("auto", p, x, w, activation="gelu"), "activation is 'gelu'"),
        (lambda p, x, w: fprop("auto", p, x, w, packed=x), "packed has"),
        (lambda p, x, w: fprop("auto", p + "_st0", x, w), "st is 0"),
        (lambda p, x, w: core.set_threads(0), "threads is 0"),
    ],
)
def test_errors_name_argument_and_value(call: object, error: str) -> None:
    x, w = np.zeros((2, 6, 6, 8), "f"), np.zeros((8, 8, 3, 3), "f")
    with pytest.raises(ValueError, match=error):
        call("n2_c8_h6w6_k8_r3s3_st1_pd1_dl1_g1", x, w)  # type: ignore[operator]
