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
    """By problem, whose true sums serve every row that computes them."""
    found = []
    for family, cases in CASES.items():
        rows = [kernel for kernel in RUNNABLE if kernel.family == family]
        rows.sort(key=lambda kernel: kernel.direction)
        for case in cases:
            for dtype in ELEMENT_SIZE if case.problem.dtype == "f32" else [case.problem.dtype]:
                problem = case.problem.replace(dtype=dtype)
                name = case.name if dtype == case.problem.dtype else f"{case.name}.{dtype}"
                found += [
                    pytest.param(kernel, problem, id=f"{kernel.name}-{name}")
                    for kernel in rows
                    if takes(kernel, problem)
                ]
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


def spread_of(
    mask: np.ndarray, kernel: registry.Kernel, p: Problem, source: str, marked: np.ndarray
) -> np.ndarray:
    """What may be NaN where the outputs of `mask` have to be, if `source` is where it is `marked`:
    those alone, by plain sums; but a gradient times the zeros of the padding is NaN, so that one of
    dy may be in each tap of its channel's filter, also where it meets nothing but padding.

    A tile of Winograd's transforms mixes all of its inputs: the NaN of one is in each of its m x m
    outputs, and in all nine taps of a weight's gradient. With groups, whose products it may merge,
    it multiplies the others' inputs by zeros.
    """
    if kernel.direction == "wgrad" and source == "dy":
        return np.broadcast_to(marked.any((0, 2, 3, 4)).reshape(-1, 1, 1, 1, 1), mask.shape)
    if kernel.direction == "wgrad" and kernel.numerics != "exact":
        return np.broadcast_to(mask.any((2, 3, 4), keepdims=True), mask.shape)
    if kernel.numerics == "exact":
        return mask
    m = 4 if kernel.numerics == "winograd_f4" else 2
    spread = mask.any(1, keepdims=True) if p.groups > 1 else mask
    for axis, dilation in ((3, p.dilation_h), (4, p.dilation_w)):
        wide = spread.copy()
        for step in range(dilation, m * dilation, dilation):
            if step < mask.shape[axis]:
                one = np.swapaxes(spread, 0, axis)
                to = np.swapaxes(wide, 0, axis)
                to[step:] |= one[:-step]
                to[:-step] |= one[step:]
        spread = wide
    return np.broadcast_to(spread, mask.shape)


@pytest.mark.parametrize("where", ["everywhere", "one"])
@pytest.mark.parametrize("kernel", RUNNABLE, ids=lambda k: k.name)
def test_keeps_nan(kernel: registry.Kernel, where: str) -> None:
    """A NaN in an input is in every output that reads it, through ReLU as well, and in no other."""
    family, direction = families.named(kernel.family), kernel.direction
    relu = {"activation": "relu"} if family.has_epilogue(direction) else {}
    taken = [c.problem for c in CASES[kernel.family] if c.problem.N and takes(kernel, c.problem)]
    for p in taken[:: -(-len(taken) // 8)]:
        for source in family.inputs(direction, p):
            if source.kind != "activation" or source.name == "uniform":
                continue  # an index and what is drawn by say where, not what
            data = inputs.operands(p, integers=False)
            values = data.values[source.name]
            random = np.random.default_rng(len(p.encode()))
            at = tuple(random.integers(extent) for extent in values.shape)
            marks = {each.name: np.ones(each.extents(p)) for each in family.inputs(direction, p)}
            marks[source.name][...] = 0
            marks[source.name][... if where == "everywhere" else at] = 1
            if "index" in data.values:
                marks["index"] = data.index
            values[marks[source.name] > 0] = np.nan
            have = inputs.load(check.run(kernel, p, data, **relu), family.output(direction), p)
            is_nan, must = np.isnan(have), family.oracle(p, direction, marks) > 0
            problem = f"{kernel.name} on {p}, NaN in {source.name} at {at}"
            assert is_nan[must].all(), f"{problem}: {(must & ~is_nan).sum()} outputs lost it"
            extra = is_nan & ~spread_of(must, kernel, p, source.name, marks[source.name] > 0)
            assert not extra.any(), f"{problem}: {extra.sum()} outputs have it that read it not"


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


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_change_the_answer(threads: int) -> None:
    """Each row with one thread and with several. Weight gradients may add in another order, and so
    may grouped rows, whose sums of two rows at a time differ from those of a single one.
    """
    calls = [(kernel, first_problem(kernel)) for kernel in RUNNABLE]

    def results() -> list[np.ndarray]:
        return [check.run(k, p, inputs.operands(p, integers=False)) for k, p in calls]

    before = core.num_threads()
    try:
        core.set_threads(1)
        wanted = results()
        core.set_threads(threads)
        for (kernel, p), want, have in zip(calls, wanted, results(), strict=True):
            other_order = kernel.direction == "wgrad" or kernel.algorithm == "grouped"
            bound = 1e-5 if other_order else 0
            np.testing.assert_allclose(
                inputs.from_bits(have, p.dtype), inputs.from_bits(want, p.dtype),
                rtol=bound, atol=bound, err_msg=f"{kernel.name} on {p}",
            )  # fmt: skip
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
        (lambda p, x, w: fprop("auto", p.replace("_st1", "_st0"), x, w), "st is 0"),
        (lambda p, x, w: core.set_threads(0), "threads is 0"),
    ],
)
def test_errors_name_argument_and_value(call: object, error: str) -> None:
    x, w = np.zeros((2, 6, 6, 8), "f"), np.zeros((8, 8, 3, 3), "f")
    with pytest.raises(ValueError, match=error):
        call("n2_c8_h6w6_k8_r3s3_st1_pd1_dl1_g1", x, w)  # type: ignore[operator]
