"""The table: its names, its order, and that no row goes untested."""

from __future__ import annotations

import re

import pytest

from fastconv import _core as core
from fastconv import registry
from fastconv.problem import DIRECTIONS, ConvProblem, Direction
from fastconv.testing import shapes

NAME = re.compile(
    r"conv_(fprop|dgrad|wgrad)_(ref|[a-z0-9]+(?:_f[24])?_(?:nhwc|nchw)_(cpu|avx2|avx512))"
)


@pytest.mark.parametrize("row", registry.kernels(), ids=lambda row: row.name)
def test_names_follow_the_grammar(row: registry.Kernel) -> None:
    match = NAME.fullmatch(row.name)
    assert match, row.name
    assert match[1] == row.direction
    assert (match[3] or "cpu") == row.target
    assert (row.algorithm == "ref") == row.name.endswith("_ref")
    if row.numerics != "exact":
        assert row.numerics in row.name


def test_names_are_unique() -> None:
    names = [row.name for row in registry.kernels()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_reference_is_last_and_takes_everything(direction: Direction) -> None:
    last = registry.kernels(direction=direction)[-1]
    assert last.algorithm == "ref"
    assert last.target == "cpu"
    for case in shapes.basic():
        assert core.why_not(last.name, case.problem.encode()) is None


RUNNABLE = [row for row in registry.kernels() if row.reason is None]


@pytest.mark.parametrize("row", RUNNABLE, ids=lambda row: row.name)
def test_every_row_is_exercised(row: registry.Kernel) -> None:
    taken = [
        case for case in shapes.basic() if core.why_not(row.name, case.problem.encode()) is None
    ]
    assert taken, f"no shape of basic.txt reaches {row.name}: add one"


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", shapes.basic(), ids=lambda case: case.name)
def test_choice(case: shapes.Case, direction: Direction) -> None:
    rows = registry.kernels(case.problem, direction)
    willing = [row.name for row in rows if row.auto_reason is None]
    assert registry.chosen(case.problem, direction, must_win=True) == (
        willing[0] if willing else None
    )
    anyway = registry.chosen(case.problem, direction)
    assert anyway in [row.name for row in rows if row.reason is None]
    if willing:
        assert anyway == willing[0]


@pytest.mark.parametrize("case", shapes.basic(), ids=lambda case: case.name)
def test_exact_precision_takes_no_winograd(case: shapes.Case) -> None:
    for direction in DIRECTIONS:
        name = registry.chosen(case.problem, direction, precision="exact")
        assert name is not None
        assert registry.find(name).numerics == "exact"


@pytest.mark.parametrize("row", registry.kernels(), ids=lambda row: row.name)
def test_workspace_is_bounded(row: registry.Kernel) -> None:
    """At most 64 MiB beyond packed weights, on the layers the benchmarks measure."""
    from fastconv.bench import workloads

    for work in workloads.workloads(["figures"]):
        text = work.problem.encode()
        if core.why_not(row.name, text) is None:
            assert core.workspace_bytes(row.name, text) <= 64 << 20, work.name


def test_packed_weights_serve_every_image() -> None:
    """The size of a packed weight is the filter's affair, not the image's."""
    for row in registry.kernels():
        for case in shapes.basic():
            problem = case.problem
            other = problem.replace(N=3, H=problem.H + 8, W=problem.W + 8, P=-1, Q=-1)
            texts = problem.encode(), other.encode()
            if any(core.why_not(row.name, text) for text in texts):
                continue
            assert core.packed_bytes(row.name, texts[0]) == core.packed_bytes(row.name, texts[1])


def test_unknown_names_are_answered_with_suggestions() -> None:
    with pytest.raises(ValueError, match=r"'conv_fprop_reff'.*did you mean conv_fprop_ref"):
        registry.find("conv_fprop_reff")
    with pytest.raises(ValueError, match="direction is 'forward'"):
        registry.kernels(direction="forward")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="precision is 'low'"):
        registry.kernels(ConvProblem(), precision="low")


def test_refusals_name_problem_and_rows() -> None:
    problem = ConvProblem(N=1, C=4, H=6, W=6, K=4, D=5, T=3, R=3, S=3)
    text = registry.refusals(problem, "fprop")
    assert problem.encode() in text
    for row in registry.kernels(problem, "fprop"):
        assert f"{row.name}: {row.reason or 'takes it'}" in text
