"""What sums are worth: finite where plain sums are, and long ones as close as torch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional as F

from fastconv import _core as core
from fastconv import registry
from fastconv.problem import ConvProblem
from fastconv.testing import inputs, tolerance

Array = npt.NDArray[Any]
CONV = registry.table("conv")
RUNNABLE = [kernel for kernel in registry.kernels(family="conv") if kernel.reason is None]
WINOGRAD = [kernel for kernel in RUNNABLE if kernel.numerics.startswith("winograd")]
EXACT = [kernel for kernel in RUNNABLE if kernel.numerics == "exact"]


def run(kernel: str, p: ConvProblem, first: Array, second: Array, **options: Any) -> Array:
    """A row's result on x and w, dy and w, or x and dy, all as [N,C,D,H,W] or [K,C,T,R,S]."""
    direction = registry.find(kernel).direction
    layouts = {"fprop": p.x_layout, "dgrad": p.y_layout, "wgrad": p.x_layout}
    first = inputs.to_layout(first.astype("f"), layouts[direction])
    if direction == "wgrad":
        return CONV.run(kernel, p.encode(), x=first, dy=inputs.to_layout(second, p.y_layout))
    options["x" if direction == "fprop" else "dy"] = first
    out = CONV.run(kernel, p.encode(), w=second, **options)
    return inputs.from_layout(out, p.y_layout if direction == "fprop" else p.x_layout)


def operands(p: ConvProblem, direction: str, scale: float) -> tuple[Array, Array]:
    """Both inputs of a direction in float32: the first in [-1/2, 1/2], the second `scale` as large."""
    random = np.random.default_rng(0)

    def draw(*shape: int) -> Array:
        return (random.random(shape) - 0.5).astype("f")

    x, dy = draw(p.N, p.C, 1, p.H, p.W), draw(p.N, p.K, 1, p.P, p.Q)
    w = draw(p.K, p.C_per_group, 1, p.R, p.S)
    first, second = {"fprop": (x, w), "dgrad": (dy, w), "wgrad": (x, dy)}[direction]
    return first, (second * scale).astype("f")


SHAPES = {
    "dense": "n1_c64_h28w28_k64_r3s3_st1_pd1_dl1_g1",
    "tails": "n2_c19_h9w11_k21_r3s3_st1_pd1_dl1_g1",
    "unpadded": "n1_c8_h7w7_k24_r3s3_st1_pd0_dl1_g1",
    "few_tiles": "n1_c160_h6w5_k96_r3s3_st1_pd1_dl1_g1",
    "dilated": "n1_c16_h15w14_k16_r3s3_st1_pd2_dl2_g1",
    "grouped": "n1_c64_h12w12_k64_r3s3_st1_pd1_dl1_g8",
    "wide_groups": "n1_c64_h12w12_k128_r3s3_st1_pd1_dl1_g2",
}
#: Into which operand what is put, and how often. Plain sums of the first three are finite.
SPECIAL = {
    "large_first": (0, -1e38, 3),
    "large_second": (1, 1e38, 3),
    "many_large": (0, 3e38, 40),
    "infinity": (0, np.inf, 1),
    "infinite_weight": (1, -np.inf, 1),
    "nan": (0, np.nan, 1),
    "nan_weight": (1, np.nan, 1),
}


def winograd_problems() -> list[object]:
    found = []
    for kernel in WINOGRAD:
        taken = [shape for shape, text in SHAPES.items() if not CONV.why_not(kernel.name, text)]
        assert taken, kernel.name
        found += [pytest.param(kernel, SHAPES[s], id=f"{kernel.name}-{s}") for s in taken]
    return found


def spoilt(p: ConvProblem, direction: str, special: str) -> tuple[Array, Array]:
    """Operands with some special values; products of large ones stay in range."""
    place, value, count = SPECIAL[special]
    pair = operands(p, direction, 1e-3)
    if special == "large_second":
        pair = (pair[0] * np.float32(1e-3), pair[1] * np.float32(1e3))
    at = np.random.default_rng(1).choice(pair[place].size, count, replace=False)
    pair[place].reshape(-1)[at] = value
    return pair


@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize(("kernel", "text"), winograd_problems())
def test_finite_where_plain_sums_are(kernel: registry.Kernel, text: str, special: str) -> None:
    """Winograd's sums of transformed values overflow earlier, and spread what is not finite over a
    tile; what a user sees is what the plain sums give.
    """
    problem = ConvProblem.decode(text)
    first, second = spoilt(problem, kernel.direction, special)
    have = run(kernel.name, problem, first, second)
    want = run(f"conv_{kernel.direction}_ref", problem, first, second)
    np.testing.assert_array_equal(np.isnan(have), np.isnan(want))
    np.testing.assert_array_equal(have[np.isinf(want)], want[np.isinf(want)])
    with np.errstate(over="ignore"):
        sizes = [np.abs(array[np.isfinite(array)]).max().astype("d") for array in (first, second)]
    bound = tolerance.real(problem, kernel.direction, kernel.numerics, sizes[0] * sizes[1])
    finite = np.isfinite(want)
    assert finite.any()
    assert not bound.violations(have[finite], want[finite].astype("d")).any()


@pytest.mark.parametrize(
    "kernel", [k for k in WINOGRAD if k.direction != "wgrad"], ids=lambda k: k.name
)
@pytest.mark.parametrize("packed", [False, True])
def test_plain_sums_are_finished_like_others(kernel: registry.Kernel, packed: bool) -> None:
    """The epilogue applies to outputs that were summed anew, and packed weights do not matter."""
    problem = ConvProblem.decode("n2_c24_h13w10_k24_r3s3_st1_pd1_dl1_g1")
    first, second = spoilt(problem, kernel.direction, "large_first")
    random = np.random.default_rng(2)
    shape = (problem.N, 24, 1, 13, 10)
    options: dict[str, Any] = {
        "scale": random.random(24).astype("f"),
        "shift": random.random(24).astype("f"),
        "activation": "relu",
    }
    residual = inputs.to_layout(random.random(shape).astype("f"), "nhwc")
    for extra in ({}, {"residual": residual}):
        if packed:
            extra = {**extra, "packed": CONV.pack(kernel.name, problem.encode(), second)}
        have = run(kernel.name, problem, first, second, **options, **extra)
        extra.pop("packed", None)
        want = run(f"conv_{kernel.direction}_ref", problem, first, second, **options, **extra)
        assert np.isfinite(have).all()
        bound = tolerance.real(problem, kernel.direction, kernel.numerics, 1e38 * 5e-4)
        assert not bound.violations(have, want.astype("d")).any()


@pytest.mark.parametrize("kernel", WINOGRAD, ids=lambda k: k.name)
def test_threads_do_not_choose_what_is_summed_plainly(kernel: registry.Kernel) -> None:
    problem = ConvProblem.decode(SHAPES["dense"])
    first, second = spoilt(problem, kernel.direction, "large_first")
    before, results = core.num_threads(), []
    try:
        for threads in (1, 2, 3):
            core.set_threads(threads)
            results.append(run(kernel.name, problem, first, second))
    finally:
        core.set_threads(before)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


#: Sums of a thousand to a million products; of each direction the row of that algorithm.
LONG = [
    ("fprop", "direct", "n1_c1024_h79w1_k24_r64s1_st1_pd0_dl1_g1"),
    ("fprop", "direct", "n1_c512_h9w9_k24_r3s3_st1_pd1_dl1_g1"),
    ("fprop", "direct", "n1_c600_h9w9_k24_r3s3_st1_pd2_dl2_g1"),
    ("fprop", "direct", "n1_c96_h1w700_k96_r1s600_st1_pd0_dl1_g2"),
    ("fprop", "pointwise", "n1_c65536_h4w4_k20_r1s1_st1_pd0_dl1_g1"),
    ("fprop", "im2col", "n1_c1024_h79w1_k24_r64s1_st1_pd0_dl1_g1"),
    ("fprop", "grouped", "n1_c64_h1w1200_k64_r1s1100_st1_pd0_dl1_g2"),
    ("fprop", "grouped", "n1_c32_h300w8_k32_r200s3_st1_pd1_dl1_g2"),
    ("fprop", "depthwise", "n1_c40_h1w4300_k40_r1s4096_st1_pd0_dl1_g40"),
    ("fprop", "depthwise", "n1_c32_h800w8_k32_r700s3_st1_pd1_dl1_g32"),
    ("fprop", "stem", "n1_c3_h120w120_k24_r100s100_st1_pd0_dl1_g1_nchw2nhwc"),
    ("dgrad", "direct", "n1_c24_h79w1_k1024_r64s1_st1_pd0_dl1_g1"),
    ("dgrad", "pointwise", "n1_c20_h4w4_k65536_r1s1_st1_pd0_dl1_g1"),
    ("dgrad", "direct", "n1_c24_h20w20_k2048_r5s5_st2_pd2_dl1_g1"),
    ("dgrad", "stem", "n1_c3_h20w20_k2048_r7s7_st2_pd3_dl1_g1"),
    ("dgrad", "im2col", "n1_c24_h5w5_k9000_r3s3_st1_pd1_dl1_g1"),
    ("dgrad", "grouped", "n1_c64_h1w1200_k64_r1s1100_st1_pd0_dl1_g2"),
    ("dgrad", "depthwise", "n1_c40_h1w4300_k40_r1s4096_st1_pd0_dl1_g40"),
    ("wgrad", "direct", "n4_c8_h512w512_k16_r1s1_st1_pd0_dl1_g1"),
    ("wgrad", "direct", "n1_c8_h256w256_k16_r3s3_st1_pd1_dl1_g1"),
    ("wgrad", "im2col", "n1_c8_h256w256_k16_r3s3_st1_pd1_dl1_g1"),
    ("wgrad", "grouped", "n1_c32_h300w300_k32_r3s3_st1_pd1_dl1_g2"),
    ("wgrad", "depthwise", "n1_c16_h1w300000_k16_r1s3_st1_pd1_dl1_g16"),
    ("wgrad", "depthwise", "n1_c16_h512w512_k16_r3s3_st1_pd1_dl1_g16"),
]


def by_torch(
    p: ConvProblem, direction: str, first: Array, second: Array, dtype: Any
) -> list[Array]:
    """torch's result in `dtype`, for both memory formats."""
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        a, b = (
            torch.from_numpy(array[:, :, 0]).to(dtype).contiguous(memory_format=memory_format)
            for array in (first, second)
        )
        geometry = ((p.stride_h, p.stride_w), (p.pad_h, p.pad_w), (p.dilation_h, p.dilation_w))
        if direction == "fprop":
            out = F.conv2d(a, b, None, *geometry, p.groups)
        elif direction == "dgrad":
            out = torch.nn.grad.conv2d_input((p.N, p.C, p.H, p.W), b, a, *geometry, p.groups)
        else:
            shape = (p.K, p.C_per_group, p.R, p.S)
            out = torch.nn.grad.conv2d_weight(a, shape, b, *geometry, p.groups)
        results.append(out.double().numpy())
    return results


@pytest.mark.parametrize("positive", [False, True], ids=["signed", "positive"])
@pytest.mark.parametrize(("direction", "algorithm", "text"), LONG, ids=lambda value: str(value))
def test_long_sums_are_as_close_as_torch(
    direction: str, algorithm: str, text: str, positive: bool
) -> None:
    """One chain of additions loses with its length: blocks of it are summed apart.

    Errors of a few roundings of the largest sum are a matter of order: torch's differ by as much
    between machines, and more than that is what counts.
    """
    problem = ConvProblem.decode(text)
    first, second = operands(problem, direction, 1.0)
    if positive:
        first = np.abs(first)
    want = by_torch(problem, direction, first, second, torch.float64)[0]
    largest = np.abs(want).max()
    torchs = by_torch(problem, direction, first, second, torch.float32)
    allowed = 2 * min(np.abs(have - want).max() for have in torchs) / largest
    depth = problem.accumulation_depth(direction)
    chains = depth / tolerance.BLOCK if depth > tolerance.LONGEST_CHAIN else depth
    roundings = max(16, np.sqrt(chains))
    allowed = max(allowed, roundings * tolerance.EPSILON["f32"])
    kernels = [
        kernel
        for kernel in EXACT
        if (kernel.direction, kernel.algorithm) == (direction, algorithm)
        and CONV.why_not(kernel.name, text) is None
    ]
    assert kernels
    for kernel in kernels:
        have = run(kernel.name, problem, first, second).reshape(want.shape)
        error = np.abs(have - want).max() / largest
        assert error <= allowed, kernel.name


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_a_long_bias_gradient_is_as_close_as_torch(layout: str) -> None:
    problem = ConvProblem(
        N=1, C=1, H=1000, W=1000, K=3, x_layout=layout, y_layout=layout
    )  # fmt: skip
    dy = np.random.default_rng(0).random((1, 3, 1, 1000, 1000)).astype("f")
    want = dy.astype("d").sum((0, 2, 3, 4))
    have = CONV.bias_grad(problem.encode(), inputs.to_layout(dy, layout))
    torchs = torch.from_numpy(dy).sum((0, 2, 3, 4)).double().numpy()
    eps = tolerance.EPSILON["f32"]
    assert np.abs(have - want).max() <= 2 * np.abs(torchs - want).max() + eps * want.max()


@pytest.mark.parametrize("algorithm", ["direct", "im2col", "depthwise", "grouped"])
def test_threads_do_not_cut_long_sums(algorithm: str) -> None:
    direction, _, text = next(one for one in LONG if one[:2] == ("fprop", algorithm))
    problem = ConvProblem.decode(text)
    first, second = operands(problem, direction, 1.0)
    before = core.num_threads()
    try:
        for kernel in EXACT:
            if (kernel.direction, kernel.algorithm) != (direction, algorithm):
                continue
            results = []
            for threads in (1, 2, 3):
                core.set_threads(threads)
                results.append(run(kernel.name, problem, first, second))
            np.testing.assert_array_equal(results[1], results[0], err_msg=kernel.name)
            np.testing.assert_array_equal(results[2], results[0], err_msg=kernel.name)
    finally:
        core.set_threads(before)
