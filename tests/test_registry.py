"""The table: its names, its order, and that no row goes untested."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

import fastconv
from fastconv import families, registry
from fastconv.problem import ConvProblem
from fastconv.problem_text import Problem
from fastconv.testing import shapes

#: Families that this build has kernels of.
FAMILIES = [family for family in families.all() if registry.kernels(family=family.name)]
DIRECTIONS = [
    pytest.param(family, direction, id=f"{family.name}_{direction}")
    for family in FAMILIES
    for direction in family.directions
]


def takes(row: registry.Kernel, problem: Problem) -> bool:
    return registry.table(row.family).why_not(row.name, problem.encode()) is None


def cases() -> list[object]:
    """Each basic shape in each direction of its family."""
    return [
        pytest.param(direction, case, id=f"{case.name}-{direction}")
        for family in FAMILIES
        for direction in family.directions
        for case in shapes.basic(family.name)
    ]


ROWS = (*registry.kernels(), *registry.kernels(device="cuda"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_names_follow_the_grammar(row: registry.Kernel) -> None:
    match = families.named(row.name).row_names().fullmatch(row.name)
    assert match, row.name
    assert match["direction"] == row.direction
    assert (match["target"] or "cpu") == row.target
    assert match["algorithm"] == "ref" or (match["layout"] and match["target"])
    if row.device != "cpu":  # whose names tell the products' type as well
        named = match["algorithm"].replace("halo", "direct")  # on a tile with its halo
        assert row.algorithm in named
        return
    assert (row.algorithm == "ref") == row.name.endswith("_ref")
    if row.numerics != "exact":
        assert row.numerics in row.name


def test_names_are_unique() -> None:
    names = [row.name for row in registry.kernels()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("family", "direction"), DIRECTIONS)
def test_the_reference_is_last_and_takes_everything(
    family: families.Family, direction: str
) -> None:
    last = registry.kernels(direction=direction, family=family.name)[-1]
    assert last.algorithm == "ref"
    assert last.target == "cpu"
    for case in shapes.basic(family.name):
        assert takes(last, case.problem)


RUNNABLE = [row for row in registry.kernels() if row.reason is None]


@pytest.mark.parametrize("row", RUNNABLE, ids=lambda row: row.name)
def test_every_row_is_exercised(row: registry.Kernel) -> None:
    taken = [case for case in shapes.basic(row.family) if takes(row, case.problem)]
    assert taken, f"no basic shape reaches {row.name}: add one"


@pytest.mark.parametrize(("direction", "case"), cases())
def test_choice(case: shapes.Case, direction: str) -> None:
    rows = registry.kernels(case.problem, direction)
    willing = [row.name for row in rows if row.auto_reason is None]
    assert registry.chosen(case.problem, direction, must_win=True) == (
        willing[0] if willing else None
    )
    anyway = registry.chosen(case.problem, direction)
    assert anyway in [row.name for row in rows if row.reason is None]
    if willing:
        assert anyway == willing[0]


@pytest.mark.parametrize(("direction", "case"), cases())
def test_exact_precision_takes_no_winograd(case: shapes.Case, direction: str) -> None:
    name = registry.chosen(case.problem, direction, precision="exact")
    assert name is not None
    assert registry.find(name).numerics == "exact"


@pytest.mark.parametrize("row", registry.kernels(), ids=lambda row: row.name)
def test_workspace_is_bounded(row: registry.Kernel) -> None:
    """At most 64 MiB beyond packed weights, on the layers the benchmarks measure."""
    from fastconv.bench import workloads

    for work in workloads.workloads(["figures"]):
        text = work.problem.encode()
        if families.of(work.problem).name == row.family and takes(row, work.problem):
            assert registry.table(row.family).workspace_bytes(row.name, text) <= 64 << 20, work.name


def test_packed_weights_serve_every_image() -> None:
    """The size of a packed weight is the filter's affair, not the image's."""
    for row in registry.kernels():
        bytes_of = registry.table(row.family).packed_bytes
        for case in shapes.basic(row.family):
            problem = case.problem
            other = problem.replace(N=3, H=problem.H + 8, W=problem.W + 8, P=-1, Q=-1)
            if takes(row, problem) and takes(row, other):
                sizes = [bytes_of(row.name, each.encode()) for each in (problem, other)]
                assert sizes[0] == sizes[1]


def test_unknown_names_are_answered_with_suggestions() -> None:
    with pytest.raises(ValueError, match=r"'conv_fprop_reff'.*did you mean conv_fprop_ref"):
        registry.find("conv_fprop_reff")
    with pytest.raises(ValueError, match="direction is 'forward'"):
        registry.kernels(direction="forward")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="precision is 'low'"):
        registry.kernels(ConvProblem(), precision="low")
    with pytest.raises(ValueError, match="family is 'rnn'"):
        registry.kernels(family="rnn")


@pytest.mark.parametrize("name", [None, 3, b"conv_fprop_ref", ["conv_fprop_ref"]], ids=repr)
def test_what_is_no_name_is_named(name: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: fastconv.use(name).__enter__(),
        lambda: fastconv.last_kernel(name),
        lambda: fastconv.last_kernel("fprop", name),
        lambda: ConvProblem.decode(name),
        lambda: fastconv.enabled(name).__enter__(),
    ]
    if name is not None:
        calls.append(lambda: registry.kernels(family=name))
    for call in calls:
        with pytest.raises(TypeError, match=re.escape(repr(name))):
            call()
    with pytest.raises(ValueError, match="no kernel is named"):
        fastconv.use("conv_fprop_ref\0x").__enter__()
    with pytest.raises(ValueError, match=r"named 'nonsense'; fastconv.kernels\(\) lists them$"):
        fastconv.use("nonsense").__enter__()
    with pytest.raises(ValueError, match="the nearest are: conv_fprop_ref"):
        fastconv.use("conv_fprop_reff").__enter__()


def test_the_family_is_found_from_the_problem() -> None:
    text = "n1_c8_h6w6_k8_r3s3_st1_pd1_dl1_g1"
    rows = registry.kernels(text)
    assert rows == registry.kernels(ConvProblem.decode(text)) and rows
    assert all(row.family == "conv" for row in rows)
    pool = registry.kernels("n1_c8_h6w6_r2s2_st2_pd0_avg")
    assert all(row.family == "pool" for row in pool)
    with pytest.raises(ValueError, match="'n1_c8_h6w6' is of no family"):
        registry.kernels("n1_c8_h6w6")
