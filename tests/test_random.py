"""Problems nobody thought of: random ones, each given to every row that takes it."""

from __future__ import annotations

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from fastconv import registry
from fastconv.problem import ConvProblem
from fastconv.testing import check

CORE = registry.table("conv")
RUNNABLE = [kernel for kernel in registry.kernels(family="conv") if kernel.reason is None]
AXES = (("D", "T", "d"), ("H", "R", "h"), ("W", "S", "w"))
#: Multiply-adds of a problem, so that the oracle and the reference stay quick.
MOST_MACS = 30_000_000


@st.composite
def axes(draw: st.DrawFn, kind: str, longest: int) -> tuple[int, int, int, int, int]:
    """Extent, taps, stride, padding and dilation of an axis: any, of extent 1, or with taps that lie
    far outside the image.
    """
    shape = draw(st.sampled_from(["any", "any", "any", "any", "any", "thin", "thin", "far"]))
    if shape == "thin":
        steps = st.integers(1, 5)
        return 1, 1, draw(steps), draw(st.integers(-1, 3)), draw(steps)
    tap = {"three": 3, "one": 1}.get(kind) or draw(st.integers(1, 7))
    stride = draw(st.sampled_from([1, 1, 1, 2, 3]))
    extent = draw(st.integers(1, longest))
    if shape == "far":
        dilation = draw(st.sampled_from([10, 100, 1000]))
        pad = dilation * (tap - 1) // 2 + draw(st.integers(0, 1))
        return extent, tap, draw(st.sampled_from([1, 2, 9, 500])), pad, dilation
    return extent, tap, stride, draw(st.integers(-1, 4)), draw(st.sampled_from([1, 1, 1, 2, 3]))


@st.composite
def problems(draw: st.DrawFn) -> ConvProblem:
    """1-d, 2-d and 3-d problems in any dtype, small enough for the oracle."""
    spatial = draw(st.sampled_from([1, 2, 2, 2, 3, 3]))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 8, 32]))
    fields: dict[str, int | str] = {"groups": groups, "N": draw(st.integers(1, 3))}
    fields["dtype"] = draw(st.sampled_from(["f32"] * 5 + ["f64", "bf16", "f16"]))
    widest = (70 if spatial < 3 else 24) // groups
    kind = draw(st.sampled_from(["any", "depthwise", "three", "one"]))
    for name in ("C", "K"):
        fields[name] = groups * (1 if kind == "depthwise" else draw(st.integers(1, max(widest, 1))))
    for extent, taps, axis in AXES[-spatial:]:
        # A depth axis is mostly thin: rows of two axes must see what it still carries.
        thin = axis == "d" and draw(st.booleans())
        drawn = draw(axes("one" if thin else kind, 1 if thin else 19 if spatial < 3 else 7))
        names = (extent, taps, f"stride_{axis}", f"pad_{axis}", f"dilation_{axis}")
        fields |= dict(zip(names, drawn, strict=True))
    for name in ("x_layout", "y_layout"):
        fields[name] = draw(st.sampled_from(["nhwc", "nhwc", "nchw"]))
    problem = ConvProblem(**fields)  # type: ignore[arg-type]
    if draw(st.integers(0, 4)) == 0:
        # Uneven padding: up to one output more or less than the formula's.
        problem = problem.replace(P=problem.P + draw(st.integers(0, 1)), Q=max(problem.Q - 1, 0))
    assume(problem.flops <= 2 * MOST_MACS)
    return problem


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(problems(), st.sampled_from(check.SETTINGS))
@example(ConvProblem(N=1, C=1, H=1, W=1, K=1, R=3, S=3, pad_h=4, pad_w=4), check.SETTINGS[0])
@example(ConvProblem(N=1, C=16, H=2, W=2, K=16, R=3, S=3), check.SETTINGS[0])
@example(
    ConvProblem(N=2, C=16, H=6, W=6, K=32, R=3, S=3, stride_d=3, pad_d=1, pad_h=1, pad_w=1),
    check.SETTINGS[0],
)
def test_random_problem(problem: ConvProblem, setting: check.Setting) -> None:
    for kernel in RUNNABLE:
        if CORE.why_not(kernel.name, problem.encode()) is None:
            wrong = check.failure(kernel, problem, setting)
            assert wrong is None, f"{kernel.name} on {problem} with {setting}: {wrong}"
