"""A problem's text: the same from C++ and Python, read back as it was written."""

from __future__ import annotations

import dataclasses
import math
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv import families
from fastconv.families.pool import PoolProblem
from fastconv.families.unpool import UnpoolProblem
from fastconv.problem import ConvProblem
from fastconv.problem_text import Problem, output_extent
from fastconv.registry import table
from fastconv.words import ELEMENT_SIZE, LAYOUTS

NATIVE = {ConvProblem: table("conv"), PoolProblem: table("pool"), UnpoolProblem: table("unpool")}


def window(draw: st.DrawFn, pads: int, widest: int) -> dict[str, int | str | bool]:
    """The fields of what every family's window is moved over: padding of at least `pads`, and gaps
    in the window of at most `widest`.
    """
    fields: dict[str, int | str | bool] = {"N": draw(st.integers(0, 9))}
    deep = draw(st.booleans())
    for extent, taps, axis in (("D", "T", "d"), ("H", "R", "h"), ("W", "S", "w")):
        if axis == "d" and not deep:
            continue
        fields |= {extent: draw(st.integers(0, 300)), taps: draw(st.integers(1, 11))}
        fields[f"stride_{axis}"] = draw(st.integers(1, 4))
        if widest > 1:
            fields[f"dilation_{axis}"] = draw(st.integers(1, widest))
        fields[f"pad_{axis}"] = draw(st.integers(pads, 9))
    if draw(st.booleans()):
        fields |= {out: draw(st.integers(0, 300)) for out in ("ZPQ" if deep else "PQ")}
    fields["dtype"] = draw(st.sampled_from(sorted(ELEMENT_SIZE)))
    fields["x_layout"], fields["y_layout"] = (
        draw(st.sampled_from(LAYOUTS)),
        draw(st.sampled_from(LAYOUTS)),
    )
    return fields


@st.composite
def problems(draw: st.DrawFn) -> ConvProblem:
    groups = draw(st.integers(1, 4))
    C, K = (groups * draw(st.integers(0, 9)) for _ in range(2))
    fields = window(draw, -3, 4)
    return ConvProblem(C=C, K=K, groups=groups, **fields)  # type: ignore[arg-type]


@st.composite
def pools(draw: st.DrawFn) -> PoolProblem:
    """Means, maxima and samples with either index, and adaptive windows."""
    fields = window(draw, 0, 1)
    fields["mode"] = mode = draw(st.sampled_from(["avg", "max", "sto"]))
    if mode == "max":
        fields["dtype"] = draw(st.sampled_from([*sorted(ELEMENT_SIZE), "uint8", "int8"]))
    if draw(st.booleans()):
        fields = {
            name: value
            for name, value in fields.items()
            if name in {*"NDHWZPQ", "mode"} or "lay" in name
        }
        fields |= {name: draw(st.integers(0, 9)) for name in "ZPQ"}
        return PoolProblem(C=draw(st.integers(0, 9)), adaptive=True, **fields)  # type: ignore[arg-type]
    if mode == "avg":
        fields["count_include_pad"], fields["divisor"] = (
            draw(st.booleans()),
            draw(st.integers(0, 99)),
        )
    else:
        fields |= {f"dilation_{axis}": draw(st.integers(1, 4)) for axis in "dhw"}
        taps = math.prod(int(fields.get(name, 1)) for name in "TRS")
        fields["index"] = draw(st.sampled_from(["i64", "u8"] if taps <= 255 else ["i64"]))
    return PoolProblem(C=draw(st.integers(0, 9)), **fields)  # type: ignore[arg-type]


@st.composite
def unpools(draw: st.DrawFn) -> UnpoolProblem:
    fields = window(draw, 0, 1)
    fields = {
        name: fields[name] for name in fields if name in {*"NDHWZPQ", "dtype"} or "lay" in name
    }
    return UnpoolProblem(C=draw(st.integers(0, 9)), **fields)  # type: ignore[arg-type]


@given(problems() | pools() | unpools())
def test_round_trip(problem: Problem) -> None:
    assert type(problem).decode(problem.encode()) == problem


@given(problems() | pools() | unpools())
def test_cpp_writes_the_same_text(problem: Problem) -> None:
    assert NATIVE[type(problem)].canonical(problem.encode()) == problem.encode()


SQUEEZED = [
    ("n1_c8_h191w1_k4_r64s1_st1_pd0_dl1_g1", "n1_c8_h1w191_k4_r1s64_st1_pd0_dl1_g1", (0, 2, 1)),
    ("n2_c8_d5h1w1_k4_t3r1s1_st2x1x1_pd1x0x0_dl1_g1", "n2_c8_h1w5_k4_r1s3_st1x2_pd0x1_dl1_g1", (2, 1, 0)),
    ("n2_c8_d3h4w5_k4_t1r1s3_st1_pd0x0x1_dl1_g1", "n2_c8_h12w5_k4_r1s3_st1_pd0x1_dl1_g1", (0, 1, 2)),
    ("n2_c8_d3h4w5_k4_t3r1s1_st1_pd1x0x0_dl1_g1", "n2_c8_h3w20_k4_r3s1_st1_pd1x0_dl1_g1", (1, 0, 2)),
    ("n2_c8_d3h4w5_k4_t1r3s3_st1_pd0x1x1_dl1_g1", "n6_c8_h4w5_k4_r3s3_st1_pd1_dl1_g1", (0, 1, 2)),
    ("n2_c8_d1h4w5_k4_t1r3s3_st1_pd1_dl1_g1", "n2_c8_d1h4w5_k4_t1r3s3_st1_pd1_dl1_g1", (0, 1, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "want", "order"), SQUEEZED)
def test_axes_that_carry_nothing(text: str, want: str, order: tuple[int, ...]) -> None:
    squeezed, axes = ConvProblem.decode(text).squeezed()
    assert (squeezed.encode(), axes) == (want, order)


@st.composite
def flat(draw: st.DrawFn) -> ConvProblem:
    """A problem of which every axis may carry nothing, or be passed over."""
    problem, changes = draw(problems()), {}
    for extent, taps, out, axis in ("DTZd", "HRPh", "WSQw"):
        kind = draw(st.sampled_from(["as it is", "empty", "passed"]))
        if kind != "as it is":
            size = 1 if kind == "empty" else draw(st.integers(1, 9))
            changes |= {extent: size, taps: 1, out: size, f"pad_{axis}": 0}
            if kind == "passed":
                changes[f"stride_{axis}"] = 1
    return problem.replace(**changes)


@given(flat())
def test_cpp_squeezes_the_same_axes(problem: ConvProblem) -> None:
    squeezed, order = problem.squeezed()
    assert NATIVE[ConvProblem].squeezed(problem.encode()) == squeezed.encode()
    assert sorted(order) == [0, 1, 2]
    assert [squeezed.weight_extents[2 + i] for i in range(3)] == [
        problem.weight_extents[2 + axis] for axis in order
    ]
    assert squeezed.squeezed() == (squeezed, (0, 1, 2))


@st.composite
def whole(draw: st.DrawFn) -> PoolProblem:
    """A pool of which every axis may be one window, or adaptive and even."""
    problem, changes = draw(pools()), {}
    for extent, taps, out, axis in ("DTZd", "HRPh", "WSQw"):
        size = draw(st.integers(1, 6))
        if problem.adaptive:
            changes |= {extent: size * draw(st.integers(1, 3)), out: size}
        elif draw(st.booleans()):
            changes |= {extent: size, taps: size, out: 1, f"pad_{axis}": 0, f"dilation_{axis}": 1}
    return problem.replace(**changes, index="i64")


@given(whole() | pools())
def test_cpp_squeezes_the_same_pools(problem: PoolProblem) -> None:
    squeezed, order = problem.squeezed()
    assert NATIVE[PoolProblem].squeezed(problem.encode()) == squeezed.encode()
    assert order == (0, 1, 2) and squeezed.squeezed() == (squeezed, order)


@pytest.mark.parametrize("record", NATIVE)
@given(text=st.text("nchwkrstpdlgxzqv0123456789_-", max_size=30) | st.text("avgexclid9_"))
def test_cpp_refuses_the_same_text(record: type[Problem], text: str) -> None:
    def answer(read: object) -> str | None:
        try:
            return str(read(text))  # type: ignore[operator]
        except ValueError:
            return None

    want = answer(lambda text: record.decode(text).encode())
    assert answer(NATIVE[record].canonical) == want


def test_shape_files_are_in_canonical_form() -> None:
    for file in (resources.files("fastconv.testing") / "shapes").iterdir():
        for line in file.read_text(encoding="utf-8").splitlines():
            if words := line.split("#")[0].split():
                assert families.decode(words[-1]).encode() == words[-1], file.name


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "n1_c8_h9w9_r3s3_st2_pd1_avg"),
        ({"count_include_pad": False}, "n1_c8_h9w9_r3s3_st2_pd1_avg_excl"),
        ({"divisor": 4}, "n1_c8_h9w9_r3s3_st2_pd1_avg_div4"),
        ({"P": 6, "Q": 6}, "n1_c8_h9w9_r3s3_st2_pd1_avg_p6q6"),
        ({"dtype": "bf16", "x_layout": "nchw"}, "n1_c8_h9w9_r3s3_st2_pd1_avg_bf16_nchw2nhwc"),
        ({"D": 4, "Z": 4}, "n1_c8_d4h9w9_t1r3s3_st1x2x2_pd0x1x1_avg"),
        ({"mode": "max"}, "n1_c8_h9w9_r3s3_st2_pd1_max"),
        ({"mode": "max", "index": "u8"}, "n1_c8_h9w9_r3s3_st2_pd1_max_u8"),
        ({"mode": "max", "dtype": "int8"}, "n1_c8_h9w9_r3s3_st2_pd1_max_int8"),
        ({"mode": "sto"}, "n1_c8_h9w9_r3s3_st2_pd1_sto"),
        (
            {"mode": "max", "dilation_w": 2, "P": -1, "Q": -1},
            "n1_c8_h9w9_r3s3_st2_pd1_dl1x2_max",
        ),
    ],
)
def test_the_text_of_a_pool(fields: dict[str, object], text: str) -> None:
    """What a family's table says is all that its text needs."""
    base = PoolProblem(C=8, H=9, W=9, R=3, S=3, stride_h=2, stride_w=2, pad_h=1, pad_w=1)
    problem = base.replace(**fields)
    assert problem.encode() == text
    assert PoolProblem.decode(text) == problem


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
        ("n1_c1_h1w1_k1_r1s1_avg", "cannot read problem part 'avg'"),
    ],
)
def test_errors(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        ConvProblem.decode(text)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("n2_c3_k4_avg", "unknown key 'k'"),
        ("n2_c3_h5w5_r3s3_st1_pd-1_avg", "pad_h is -1; it must be at least 0"),
        ("n2_c3_h5w5_r3s3_sto_div2", "divisor is 2; of no mean it must be 0"),
        ("n2_c3_h5w5_r3s3_avg_uint8", "mode is avg; of whole numbers it must be max"),
    ],
)
def test_errors_of_another_family(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        PoolProblem.decode(text)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (ConvProblem, "n2_c3_h5w5_k4_r3s3_n4"),
        (ConvProblem, "n2_c3_h5h6w5_k4_r3s3"),
        (ConvProblem, "n2_c3_h5w5_k4_r3s3_st1_pd1_st2"),
        (ConvProblem, "n2_c3_h5w5_k4_r3s3_f32_bf16"),
        (ConvProblem, "n2_c3_h5w5_k4_r3s3_bf16_bf16"),
        (ConvProblem, "n2_c3_h5w5_k4_r3s3_nchw_nhwc"),
        (PoolProblem, "n2_c3_h5w5_r3s3_avg_incl_excl"),
        (PoolProblem, "n2_c3_h5w5_r3s3_avg_avg"),
    ],
)
def test_a_field_is_named_once(record: type[Problem], text: str) -> None:
    for read in (record.decode, NATIVE[record].canonical):
        with pytest.raises(ValueError, match="says again in problem"):
            read(text)


def test_fields_that_are_words_are_checked() -> None:
    with pytest.raises(ValueError, match="mode is 'median'; it must be one of avg"):
        PoolProblem(mode="median")
    with pytest.raises(ValueError, match="x_layout is 'chwn'; it must be one of nchw, nhwc"):
        ConvProblem(x_layout="chwn")


def test_fields_that_are_integers_are_checked() -> None:
    for record, field in ((ConvProblem, "R"), (ConvProblem, "pad_h"), (PoolProblem, "divisor")):
        with pytest.raises(TypeError, match=f"{field} is '3'; it must be an integer"):
            record(**{field: "3"})
    assert ConvProblem(C=np.int64(3)) == ConvProblem(C=3)


def test_a_problem_is_a_value() -> None:
    problem = ConvProblem(C=8, K=8)
    assert hash(problem) == hash(ConvProblem(C=8, K=8))
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.C = 4  # type: ignore[misc]
