"""Problems nobody thought of: random ones, each given to every row that takes it."""

from __future__ import annotations

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fastconv import registry
from fastconv.problem import ConvProblem
from fastconv.testing import check

CORE = registry.table("conv")
RUNNABLE = [kernel for kernel in registry.kernels(family="conv") if kernel.reason is None]


@st.composite
def problems(draw: st.DrawFn) -> ConvProblem:
    """2-d float32 problems with at least one output, small enough for the oracle."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 8, 32]))
    fields: dict[str, int | str] = {"groups": groups, "N": draw(st.integers(1, 3))}
    widest = 70 // groups if groups > 1 else 70
    kind = draw(st.sampled_from(["any", "depthwise", "three", "one"]))
    for name in ("C", "K"):
        fields[name] = groups * (1 if kind == "depthwise" else draw(st.integers(1, max(widest, 1))))
    for extent, taps, axis in (("H", "R", "h"), ("W", "S", "w")):
        tap = {"three": 3, "one": 1}.get(kind) or draw(st.integers(1, 7))
        stride = draw(st.sampled_from([1, 1, 1, 2, 3]))
        dilation = draw(st.sampled_from([1, 1, 1, 2, 3]))
        fields |= {taps: tap, f"stride_{axis}": stride, f"dilation_{axis}": dilation}
        fields[extent] = draw(st.integers(1, 19))
        fields[f"pad_{axis}"] = draw(st.integers(-1, 4))
    for name in ("x_layout", "y_layout"):
        fields[name] = draw(st.sampled_from(["nhwc", "nhwc", "nchw"]))
    problem = ConvProblem(**fields)  # type: ignore[arg-type]
    if (
        draw(st.integers(0, 4)) == 0
    ):  # uneven padding: up to one output more or less than the formula's
        problem = problem.replace(P=problem.P + draw(st.integers(0, 1)), Q=max(problem.Q - 1, 0))
    return problem


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(problems(), st.sampled_from(check.SETTINGS))
@example(ConvProblem(N=1, C=1, H=1, W=1, K=1, R=3, S=3, pad_h=4, pad_w=4), check.SETTINGS[0])
@example(ConvProblem(N=1, C=16, H=2, W=2, K=16, R=3, S=3), check.SETTINGS[0])
def test_random_problem(problem: ConvProblem, setting: check.Setting) -> None:
    for kernel in RUNNABLE:
        if CORE.why_not(kernel.name, problem.encode()) is None:
            wrong = check.failure(kernel, problem, setting)
            assert wrong is None, f"{kernel.name} on {problem} with {setting}: {wrong}"
