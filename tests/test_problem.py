"""A problem's text: the same from C++ and Python, read back as it was written."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv.problem import ELEMENT_SIZE, LAYOUTS, ConvProblem, output_extent
from fastconv.registry import core
from fastconv.testing import shapes

native = core()


@st.composite
def problems(draw: st.DrawFn) -> ConvProblem:
    groups = draw(st.integers(1, 4))
    fields: dict[str, int | str] = {"groups": groups, "N": draw(st.integers(0, 9))}
    fields["C"], fields["K"] = (groups * draw(st.integers(0, 9)) for _ in range(2))
    deep = draw(st.booleans())
    for extent, taps, axis in (("D", "T", "d"), ("H", "R", "h"), ("W", "S", "w")):
        if axis == "d" and not deep:
            continue
        fields |= {extent: draw(st.integers(0, 300)), taps: draw(st.integers(1, 11))}
        fields |= {
            f"stride_{axis}": draw(st.integers(1, 4)),
            f"dilation_{axis}": draw(st.integers(1, 4)),
        }
        fields[f"pad_{axis}"] = draw(st.integers(-3, 9))
    if draw(st.booleans()):
        fields |= {out: draw(st.integers(0, 300)) for out in ("ZPQ" if deep else "PQ")}
    fields["dtype"] = draw(st.sampled_from(sorted(ELEMENT_SIZE)))
    fields["x_layout"], fields["y_layout"] = (
        draw(st.sampled_from(LAYOUTS)),
        draw(st.sampled_from(LAYOUTS)),
    )
    return ConvProblem(**fields)  # type: ignore[arg-type]


@given(problems())
def test_round_trip(problem: ConvProblem) -> None:
    assert ConvProblem.decode(problem.encode()) == problem


@given(problems())
def test_cpp_writes_the_same_text(problem: ConvProblem) -> None:
    assert native is not None
    assert native.canonical(problem.encode()) == problem.encode()


@given(st.text("nchwkrstpdlgxzq0123456789_-", max_size=30))
def test_cpp_refuses_the_same_text(text: str) -> None:
    def answer(read: object) -> str | None:
        try:
            return str(read(text))  # type: ignore[operator]
        except ValueError:
            return None

    assert native is not None
    assert answer(native.canonical) == answer(lambda text: ConvProblem.decode(text).encode())


def test_shape_files_are_in_canonical_form() -> None:
    for case in shapes.basic():
        text = case.problem.encode()
        assert ConvProblem.decode(text) == case.problem


def test_derived_extents() -> None:
    problem = ConvProblem(
        N=1, C=3, H=224, W=224, K=64, R=7, S=7, stride_h=2, stride_w=2, pad_h=3, pad_w=3
    )
    assert (problem.P, problem.Q) == (112, 112)
    assert problem.flops == 2 * 64 * 112 * 112 * 3 * 49
    assert problem.encode() == "n1_c3_h224w224_k64_r7s7_st2_pd3_dl1_g1"
    assert output_extent(28, 3, 1, 2, 2) == 28
    assert output_extent(2, 5, 1, 0, 1) == 0


def test_depth() -> None:
    problem = ConvProblem.decode("n2_c64_h28w28_k32_r3s3_st1_pd1_dl1_g4")
    assert problem.accumulation_depth("fprop") == 16 * 9
    assert problem.accumulation_depth("dgrad") == 8 * 9
    assert problem.accumulation_depth("wgrad") == 2 * 28 * 28


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("n2_c", "cannot read problem part 'c'"),
        ("n2_y3", "unknown key 'y'"),
        ("n2_c3_h5w5_k4_r3s3_st0", "stride_h is 0"),
        ("n2_c3_h5w5_k4_r3s3_g2", "C is 3; it must be divisible by groups = 2"),
        ("", "cannot read problem part ''"),
    ],
)
def test_errors(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        ConvProblem.decode(text)


def test_a_problem_is_a_value() -> None:
    problem = ConvProblem(C=8, K=8)
    assert hash(problem) == hash(ConvProblem(C=8, K=8))
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.C = 4  # type: ignore[misc]
