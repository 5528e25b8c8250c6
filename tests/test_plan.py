"""Measured plans: what is measured, kept, read again, and how it and the heuristics choose."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from fastconv import _triton, plan, tune
from fastconv.problem import ConvProblem
from fastconv.triton import choice

if "cpu" not in _triton.device_types():
    pytest.skip("Triton's kernels are not interpreted here", allow_module_level=True)

PROBLEM = ConvProblem.decode("n1_c16_h6w5_k16_r3s3_st1_pd1_dl1_g1")


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FASTCONV_CACHE", str(tmp_path))
    tune._plans.cache_clear()
    yield
    tune._plans.cache_clear()


def clock() -> Callable[[Callable[[], torch.Tensor]], float]:
    """A clock by which every call takes longer than the one before."""
    ticks = itertools.count(1)
    return lambda call: float(next(ticks))


def test_plans_are_kept_and_read_again(tmp_path: Path) -> None:
    made = tune.measure("fprop", PROBLEM, clock())
    names = {row.name for row in choice.ROWS if row.direction == "fprop"}
    taking = {name for name in names if choice.why_not(choice.find(name), PROBLEM) is None}  # type: ignore[arg-type]
    assert set(made.microseconds) == taking | {tune.TORCH}
    assert set(made.configs) == taking
    tune._plans.cache_clear()
    assert tune.measured("fprop", PROBLEM) == made
    assert tune.measured("dgrad", PROBLEM) is None
    row = choice.find("conv_fprop_igemm_nhwc_triton")
    assert row is not None
    assert tune.config_for(row, PROBLEM, PROBLEM) == row.configs(PROBLEM)[0]
    assert len(list(tmp_path.iterdir())) == 1


def test_the_fastest_configuration_is_used() -> None:
    ticks = itertools.count(1)
    tune.measure("fprop", PROBLEM, lambda call: 1.0 / next(ticks))
    row = choice.find("conv_fprop_igemm_nhwc_triton")
    assert row is not None
    configs = row.configs(PROBLEM)
    assert len(configs) > 1
    assert tune.config_for(row, PROBLEM, PROBLEM) == configs[-1] != configs[0]


def test_the_fastest_kernel_is_chosen() -> None:
    made = tune.measure("fprop", PROBLEM, clock())
    assert min(made.microseconds, key=made.microseconds.__getitem__) == tune.TORCH
    assert plan.preferred("fprop", PROBLEM, must_win=True, own="conv_fprop_ref_sm80") is None
    ours = [name for name in made.microseconds if name != tune.TORCH]
    exact = [name for name in ours if made.numerics[name] == "exact"]
    assert plan.preferred("fprop", PROBLEM, "exact") == exact[0]
    assert plan.preferred("fprop", PROBLEM, allow_tf32=True) == ours[0]


def test_a_wrong_kernel_is_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = "conv_fprop_igemm_nhwc_triton"
    true = tune._row_call

    def spoiled(row, *rest):  # type: ignore[no-untyped-def]
        call = true(row, *rest)
        return (lambda: call() + 1) if row.name == wrong else call

    monkeypatch.setattr(tune, "_row_call", spoiled)
    made = tune.measure("fprop", PROBLEM, clock())
    assert wrong not in made.microseconds and wrong not in made.configs


def test_a_file_that_cannot_be_read_is_no_plan(tmp_path: Path) -> None:
    tune.measure("fprop", PROBLEM, clock())
    (file,) = tmp_path.iterdir()
    stored = json.loads(file.read_text())
    for text in ("{", json.dumps(stored | {"where": "another GPU"}), json.dumps({})):
        file.write_text(text)
        tune._plans.cache_clear()
        assert tune.measured("fprop", PROBLEM) is None


@pytest.mark.parametrize(
    ("own", "direction", "want"),
    [
        (None, "fprop", "conv_fprop_igemm_nhwc_triton"),
        ("conv_fprop_igemm_nhwc_sm90a", "fprop", "conv_fprop_igemm_nhwc_sm90a"),
        ("conv_fprop_ref_sm80", "fprop", "conv_fprop_igemm_nhwc_triton"),
        ("conv_wgrad_im2col_nhwc_sm80", "wgrad", "conv_wgrad_igemm_nhwc_triton"),
    ],
)
def test_heuristics_without_a_measurement(own: str | None, direction: str, want: str) -> None:
    problem = PROBLEM.replace(dtype="bf16")
    assert plan.preferred(direction, problem, own=own) == want  # type: ignore[arg-type]


def test_what_nobody_measured_does_not_replace_torchs() -> None:
    assert plan.preferred("fprop", PROBLEM, must_win=True) is None


@pytest.mark.parametrize(
    "text", ["n1_c4_h4w4_k4_r2s2_st1_pd-1_dl1_g1", "n1_c4_h4w4_k4_r2s2_st1_pd0_dl1_g1_p4q4"]
)
def test_uneven_problems_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="its padding must be even"):
        tune.measure("fprop", ConvProblem.decode(text))


def test_a_driver_that_does_not_start_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_triton, "is_interpreted", lambda: False)
    monkeypatch.setattr(_triton._cuda, "why_not", lambda: None)
    monkeypatch.setattr(_triton._cuda, "capability", lambda: 75)
    assert "below 8.0" in str(_triton.why_not.__wrapped__())
    monkeypatch.setattr(_triton._cuda, "capability", lambda: 90)
    assert "triton's driver does not start" in str(_triton.why_not.__wrapped__())
