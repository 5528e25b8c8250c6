"""Measured plans: what is measured, kept, read again, and how it and the heuristics choose."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from fastconv import _cuda, _triton, cli, families, plan, plans, tune
from fastconv.bench import tuning, workloads
from fastconv.problem import ConvProblem
from fastconv.testing import shapes
from fastconv.triton import call, choice

if "cpu" not in _triton.device_types():
    pytest.skip("Triton's kernels are not interpreted here", allow_module_level=True)

PROBLEM = ConvProblem.decode("n1_c16_h6w5_k16_r3s3_st1_pd1_dl1_g1")


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FASTCONV_CACHE", str(tmp_path))
    plans.forget()
    yield
    plans.forget()


def clock() -> Callable[[Callable[[], object]], float]:
    """A clock by which every call takes longer than those that it met before."""
    times: dict[object, float] = {}
    return lambda call: times.setdefault(call, len(times) + 1.0)


def test_plans_are_kept_and_read_again(tmp_path: Path) -> None:
    made = tune.measure("fprop", PROBLEM, clock())
    names = {row.name for row in choice.ROWS if row.direction == "fprop"}
    taking = {name for name in names if choice.why_not(choice.find(name), PROBLEM) is None}  # type: ignore[arg-type]
    assert set(made.microseconds) == taking | {tune.TORCH}
    assert set(made.configs) == taking
    plans.forget()
    assert plans.measured("fprop", PROBLEM) == made
    assert plans.measured("dgrad", PROBLEM) is None
    row = choice.find("conv_fprop_igemm_nhwc_triton")
    assert row is not None
    assert call.config_for(row, PROBLEM, PROBLEM) == row.configs(PROBLEM)[0]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("direction", ["fprop", "dgrad"])
@pytest.mark.parametrize("words", ["avg_excl", "max", "max_u8"])
def test_pools_are_measured(direction: str, words: str) -> None:
    """A gradient by the indices of the input that was drawn."""
    problem = families.decode(f"n1_c8_h6w5_r3s3_st2_pd1_{words}")
    made = tune.measure(direction, problem, clock())
    assert not made.faults
    assert set(made.configs) == {f"pool_{direction}_direct_nhwc_triton"}


def test_the_fastest_configuration_is_used() -> None:
    times: dict[object, float] = {}
    tune.measure("fprop", PROBLEM, lambda call: times.setdefault(call, 1.0 / (len(times) + 1)))
    row = choice.find("conv_fprop_igemm_nhwc_triton")
    assert row is not None
    configs = row.configs(PROBLEM)
    assert len(configs) > 1
    assert call.config_for(row, PROBLEM, PROBLEM) == configs[-1] != configs[0]


def test_the_fastest_kernel_is_chosen() -> None:
    made = tune.measure("fprop", PROBLEM, clock())
    assert min(made.microseconds, key=made.microseconds.__getitem__) == tune.TORCH
    assert plan.preferred("fprop", PROBLEM, must_win=True, own="conv_fprop_ref_sm80") is None
    ours = [name for name in made.microseconds if name != tune.TORCH]
    exact = [name for name in ours if made.numerics[name] == "exact"]
    assert plan.preferred("fprop", PROBLEM, "exact") == exact[0]
    assert plan.preferred("fprop", PROBLEM, allow_tf32=True) == ours[0]


def test_the_fastest_are_timed_again_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that was lucky once is not the fastest; nobody stands at one place of every round."""
    rows = ("conv_fprop_direct_nhwc_triton", "conv_fprop_igemm_nhwc_triton")
    monkeypatch.setattr(_triton, "rows", lambda: [choice.find(name) for name in rows])
    true, called, met = tune._row_call, {}, []

    def named(row, *rest):  # type: ignore[no-untyped-def]
        call = true(row, *rest)
        called[call] = row.name
        return call

    def seconds(call: Callable[[], object]) -> float:
        name = called.get(call, plans.TORCH)
        met.append(call)
        if name == plans.TORCH:
            return 9.0
        lucky = name == rows[0] and met.count(call) == 1
        return 1.0 if lucky else 1.2 if name == rows[1] else 1.5

    monkeypatch.setattr(tune, "_row_call", named)
    made = tune.measure("fprop", PROBLEM, seconds)
    assert {name: made.microseconds[name] for name in rows} == pytest.approx(
        {rows[0]: 1.5e6, rows[1]: 1.2e6}
    )
    assert plan.preferred("fprop", PROBLEM) == rows[1]
    first = len(called) + 2  # torch's in two formats
    finalists = (len(met) - first) // tune._ROUNDS
    rounds = [met[i : i + finalists] for i in range(first, len(met), finalists)]
    assert len(rounds) == tune._ROUNDS and finalists > 2
    assert all(set(each) == set(rounds[0]) for each in rounds)
    assert any(each != rounds[0] for each in rounds[1:])


def test_a_wrong_kernel_is_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = "conv_fprop_igemm_nhwc_triton"
    true = tune._row_call

    def spoiled(row, *rest):  # type: ignore[no-untyped-def]
        call = true(row, *rest)
        return (lambda: call() + 1) if row.name == wrong else call

    monkeypatch.setattr(tune, "_row_call", spoiled)
    made = tune.measure("fprop", PROBLEM, clock())
    assert wrong not in made.microseconds and wrong not in made.configs
    assert list(made.faults) == [wrong] and made.faults[wrong].startswith("wrong in ")


def test_a_kernel_that_does_not_run_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = {"conv_fprop_igemm_nhwc_triton": 1, "conv_fprop_direct_nhwc_triton": 1000}
    true = tune._row_call

    def spoiled(row, *rest):  # type: ignore[no-untyped-def]
        """igemm fails in its first configuration, direct in all."""
        failing[row.name] = failing.get(row.name, 0) - 1
        return (lambda: 1 / 0) if failing[row.name] >= 0 else true(row, *rest)

    monkeypatch.setattr(tune, "_row_call", spoiled)
    made = tune.measure("fprop", PROBLEM, clock())
    assert made.faults == {"conv_fprop_direct_nhwc_triton": "ZeroDivisionError: division by zero"}
    assert "conv_fprop_igemm_nhwc_triton" in made.configs
    monkeypatch.setattr(_cuda, "is_lost", lambda: True)
    failing.update(dict.fromkeys(failing, 1000))
    with pytest.raises(RuntimeError, match=r"conv_fprop_\w+_triton: division by zero"):
        tune.measure("fprop", PROBLEM, clock())


def only_direct_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a test is about torch's kernel, ours need not all be interpreted."""
    rows = tuple(row for row in choice.ROWS if "_direct_" in row.name)
    monkeypatch.setattr(_triton, "rows", lambda: rows)


@pytest.mark.parametrize("failing", [("nhwc",), ("nhwc", "nchw")], ids=str)
def test_torchs_own_kernel_may_fail(
    failing: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    only_direct_rows(monkeypatch)
    true = tune._torch_call

    def spoiled(direction, p, t):  # type: ignore[no-untyped-def]
        layout = "nchw" if t["x"].is_contiguous() else "nhwc"
        fails = t["x"].dtype == torch.float32 and layout in failing
        return (lambda: 1 / 0) if fails else true(direction, p, t)

    monkeypatch.setattr(tune, "_torch_call", spoiled)

    def seconds(call: Callable[[], torch.Tensor]) -> float:
        call()
        return 1.0

    made = tune.measure("fprop", PROBLEM, seconds)
    assert (tune.TORCH in made.microseconds) == (len(failing) == 1)
    assert (tune.TORCH in made.faults) == (len(failing) == 2)
    assert made.configs


@pytest.mark.parametrize("direction", ["fprop", "dgrad", "wgrad"])
@pytest.mark.parametrize(
    ("text", "axes"),
    [
        ("n1_c4_h6w5_k6_r3s3_st1x2_pd1_dl1_g2", 2),
        ("n1_c4_h1w9_k4_r1s3_st1_pd0x1_dl1_g4_nchw", 2),
        ("n1_c4_d3h4w4_k4_t2r2s2_st1_pd1x0x0_dl1_g1", 3),
        ("n1_c4_d1h4w4_k4_t3r3s3_st1_pd1_dl1_g1", 3),
    ],
)
def test_torch_is_given_the_axes_there_are(
    text: str, axes: int, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both memory formats, of which the faster counts, with cuDNN's search on meanwhile."""
    only_direct_rows(monkeypatch)
    seen = []
    true = tune._torch_call

    def watched(direction, p, t):  # type: ignore[no-untyped-def]
        x, dy = t["x"], t["dy"]
        if x.dtype == torch.float32:
            last = torch.channels_last if axes == 2 else torch.channels_last_3d
            seen.append((x.dim(), dy.dim(), x.is_contiguous(), x.is_contiguous(memory_format=last)))
            times[true_call := true(direction, p, t)] = 5.0 - len(seen)
            return true_call
        return true(direction, p, t)

    times: dict[Callable[[], torch.Tensor], float] = {}
    searching = []

    def seconds(call: Callable[[], torch.Tensor]) -> float:
        searching.append(torch.backends.cudnn.benchmark)
        return times.get(call, 9.0)

    monkeypatch.setattr(tune, "_torch_call", watched)
    made = tune.measure(direction, ConvProblem.decode(text), seconds)  # type: ignore[arg-type]
    assert seen == [(axes + 2, axes + 2, False, True), (axes + 2, axes + 2, True, False)]
    assert math.isclose(made.microseconds[tune.TORCH], 3e6)
    assert not made.faults and len(made.microseconds) > 1
    assert all(searching) and not torch.backends.cudnn.benchmark


def small_set(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(workloads, "read_set", lambda name: shapes.parse("\n".join(lines)))


SETS = (
    "a.1x1 n1_c64_h3w3_k8_r1s1_st1_pd0_dl1_g1",
    "a.3x3 n1_c64_h3w3_k8_r3s3_st1_pd1_dl1_g1",
    "a.dense16 n1_c16_h3w3_k8_r1s1_st1_pd0_dl1_g1",
    "a.stem n1_c3_h5w5_k8_r3s3_st2_pd1_dl1_g1",
    "a.grouped n1_c16_h3w3_k16_r3s3_st1_pd1_dl1_g2",
    "a.depthwise n1_c16_h3w3_k16_r3s3_st1_pd1_dl1_g16",
)


def test_the_most_wanted_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    small_set(monkeypatch, *SETS)
    jobs = tuning.jobs(["a", "b"], 2, "f32", ["fprop", "dgrad"])
    names = ["a.depthwise", "a.grouped", "a.stem", "a.3x3", "a.dense16", "a.1x1"]
    assert [work.name for _, work in jobs] == [name for name in names for _ in range(2)]
    assert [direction for direction, _ in jobs] == ["fprop", "dgrad"] * 6
    jobs = tuning.jobs(["a"], 2, "bf16", ["fprop"])
    assert [work.name for _, work in jobs][3:] == ["a.dense16", "a.1x1", "a.3x3"]


def test_tune_goes_on_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every state of the file is whole, and has what was measured so far."""
    small_set(monkeypatch, *SETS[-3:])
    file = tmp_path / "out" / "tune.json"
    kept: list[int] = []

    def measure(direction: str, p: ConvProblem) -> tune.Plan:
        if file.exists():
            kept.append(len(json.loads(file.read_text(encoding="utf-8"))["rows"]))
        if p.groups == 2:
            raise RuntimeError("out of luck")
        return tune.Plan({tune.TORCH: 6.0, "ours": 2.0}, {}, {}, {"theirs": "wrong in 1"})

    monkeypatch.setattr(tune, "measure", measure)
    words = ["tune", "--set", "a", "--direction", "fprop", "--json", str(file)]
    assert cli.main(words) == 1
    assert kept == [1, 2]
    result = json.loads(file.read_text(encoding="utf-8"))
    assert (result["left"], result["stopped"]) == (0, None)
    assert [row["failure"] for row in result["rows"]] == [None, "RuntimeError: out of luck", None]
    assert [path.name for path in file.parent.iterdir()] == ["tune.json"]
    out = capsys.readouterr().out
    assert "FAILED: RuntimeError: out of luck" in out and "theirs FAILED: wrong in 1" in out
    assert "geometric mean 3.00 x torch; 0 of 2 slower\n1 of 3 without a ratio" in out
    monkeypatch.setattr(_cuda, "is_lost", lambda: True)
    assert cli.main(words) == 1
    result = json.loads(file.read_text(encoding="utf-8"))
    assert (result["left"], len(result["rows"])) == (1, 2)
    assert "the GPU answers this process no more, 1 problems left" in capsys.readouterr().out


def test_tune_stops_at_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_set(monkeypatch, *SETS)
    now = itertools.count(0, 20)
    monkeypatch.setattr(tuning.time, "monotonic", lambda: next(now))
    plans = tune.Plan({tune.TORCH: 6.0, "ours": 2.0}, {}, {})
    monkeypatch.setattr(tune, "measure", lambda direction, p: plans)
    file = tmp_path / "tune.json"
    words = ["tune", "--set", "a", "--direction", "fprop", "--limit", "50", "--json", str(file)]
    assert cli.main(words) == 0
    result = json.loads(file.read_text(encoding="utf-8"))
    assert [row["layer"] for row in result["rows"]] == ["a.depthwise", "a.grouped"]
    assert (result["left"], result["stopped"]) == (4, "after 50 s")
    assert "stopped: after 50 s, 4 problems left" in capsys.readouterr().out


def test_a_file_that_cannot_be_read_is_no_plan(tmp_path: Path) -> None:
    tune.measure("fprop", PROBLEM, clock())
    (file,) = tmp_path.iterdir()
    stored = json.loads(file.read_text())
    for text in ("{", json.dumps(stored | {"where": "another GPU"}), json.dumps({})):
        file.write_text(text)
        plans.forget()
        assert plans.measured("fprop", PROBLEM) is None


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
