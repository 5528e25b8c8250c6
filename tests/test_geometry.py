"""Convolutions far outside the image, and axes that seem to carry nothing: right, and at a price that
grows with the image, not with stride, padding or dilation.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers_torch import assert_close

from fastconv import _core as core
from fastconv import registry
from fastconv.enable import enabled
from fastconv.problem import ConvProblem
from fastconv.testing import inputs

CONV = registry.table("conv")
RUNNABLE = [kernel for kernel in registry.kernels(family="conv") if kernel.reason is None]
LAST = 2**63 - 1


def compare(
    call: Any, x_size: tuple[int, ...], w_size: tuple[int, ...], like: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32, **kwargs: Any,
) -> torch.Tensor:  # fmt: skip
    """Output and gradients against torch's in float64, with the arguments `like` where torch itself
    is not sure of the given ones.
    """
    torch.manual_seed(0)
    channels = w_size[1] * kwargs.get("groups", 1) if "transpose" in call.__name__ else w_size[0]
    tensors = [torch.randn(size, dtype=torch.float64) for size in (x_size, w_size, (channels,))]
    theirs = [t.clone().requires_grad_() for t in tensors]
    ours = [t.to(dtype).requires_grad_() for t in tensors]
    want = call(*theirs, **(kwargs | (like or {})))
    with enabled():
        have = call(*ours, **kwargs)
        grad = torch.randn_like(want)
        mine = torch.autograd.grad(have, ours, grad.to(dtype))
    other = torch.autograd.grad(want, theirs, grad)
    for a, b in zip((have, *mine), (want, *other), strict=True):
        assert_close(a, b.to(dtype))
    return have.detach()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("channels", "groups", "taps", "kwargs"),
    [
        (16, 1, 3, {"stride": (3, 1, 1), "padding": 1}),
        (16, 1, 3, {"stride": (3, 2, 2), "padding": 1, "dilation": (7, 1, 1)}),
        (3, 1, 3, {"stride": (4, 2, 2), "padding": (1, 1, 1)}),
        (16, 1, 1, {"stride": (3, 1, 1), "padding": (1, 0, 0)}),
        (32, 4, 3, {"stride": (3, 1, 1), "padding": 1}),
        (32, 32, 3, {"stride": (5, 1, 1), "padding": (2, 1, 1)}),
    ],
    ids=str,
)
def test_an_output_in_the_padding_of_the_depth(channels, groups, taps, kwargs, dtype) -> None:
    """One plane, one tap of depth, one output of depth: and that one reads nothing."""
    outputs = 32
    have = compare(
        F.conv3d, (2, channels, 1, 6, 6), (outputs, channels // groups, 1, taps, taps),
        groups=groups, dtype=dtype, **kwargs,
    )  # fmt: skip
    torch.manual_seed(0)
    torch.randn(2, channels, 1, 6, 6, dtype=torch.float64)
    torch.randn(outputs, channels // groups, 1, taps, taps, dtype=torch.float64)
    bias = torch.randn(outputs, dtype=torch.float64).to(dtype)
    assert have.shape[2] == 1
    assert torch.equal(have, bias.view(1, -1, 1, 1, 1).expand_as(have))


@pytest.mark.parametrize("axis", [2, 3])
def test_an_output_in_the_padding_of_a_flat_image(axis: int) -> None:
    sizes, weights, strides = [2, 16, 9, 9], [32, 16, 3, 3], [1, 1]
    sizes[axis], weights[axis], strides[axis - 2] = 1, 1, 3
    compare(F.conv2d, tuple(sizes), tuple(weights), stride=tuple(strides), padding=1)


def test_arrays_of_a_padded_depth_have_that_axis() -> None:
    problem = ConvProblem.decode("n2_c16_d1h6w5_k8_t1r3s3_st3x1x1_pd1_dl1_g1")
    assert not problem.is_2d
    assert problem.replace(pad_d=0).is_2d
    x, w = np.ones((2, 1, 6, 5, 16), "f"), np.ones((8, 16, 1, 3, 3), "f")
    y = CONV.run("auto", problem.encode(), direction="fprop", x=x, w=w)
    assert y.shape == (2, 1, 6, 5, 8)
    assert not y.any()
    with pytest.raises(ValueError, match=r"x has shape \(2, 6, 5, 16\)"):
        CONV.run("auto", problem.encode(), direction="fprop", x=x[:, 0], w=w)


@pytest.mark.parametrize(
    ("x", "w", "kwargs"),
    [
        ((1, 64, 8, 8), (64, 64, 3, 3), {"padding": 5000, "dilation": 5000}),
        ((1, 64, 8, 8), (64, 64, 3, 3), {"padding": 1000, "dilation": 1000}),
        ((1, 16, 9, 7), (16, 16, 3, 3), {"padding": (1, 10**6), "dilation": (1, 10**6)}),
        ((1, 16, 9, 7), (16, 16, 3, 3), {"padding": (10**6, 1), "dilation": (10**6, 1)}),
        ((1, 16, 9, 7), (16, 16, 3, 3), {"padding": 30000, "dilation": 30000, "stride": 2}),
        ((1, 3, 9, 8), (16, 3, 3, 3), {"padding": 30000, "dilation": 30000, "stride": 2}),
        ((1, 32, 9, 7), (32, 16, 3, 3), {"padding": 9000, "dilation": 9000, "groups": 2}),
        ((1, 32, 9, 7), (32, 8, 3, 3), {"padding": 10**7, "dilation": 10**7, "groups": 4}),
        ((1, 32, 9, 7), (32, 1, 3, 3), {"padding": 10**7, "dilation": 10**7, "groups": 32}),
        ((1, 16, 8, 9), (16, 16, 3, 3), {"padding": 1, "stride": 10**6}),
        ((1, 3, 8, 9), (16, 3, 3, 3), {"padding": 1, "stride": 10**6}),
        ((1, 16, 8, 9), (16, 16, 1, 1), {"stride": 10**6}),
        ((1, 32, 8, 9), (32, 8, 3, 3), {"padding": 1, "stride": 10**6, "groups": 4}),
        ((1, 32, 8, 9), (32, 1, 3, 3), {"padding": 1, "stride": 10**6, "groups": 32}),
        ((1, 16, 8, 9), (16, 16, 3, 3), {"padding": 3000, "stride": 1000}),
        ((1, 32, 8, 9), (32, 1, 3, 3), {"padding": 3000, "stride": 1000, "groups": 32}),
    ],
    ids=str,
)
def test_far_outside_the_image(x, w, kwargs) -> None:
    compare(F.conv2d, x, w, **kwargs)


@pytest.mark.parametrize("groups", [1, 2, 16])
def test_a_transposed_convolution_far_outside_the_image(groups: int) -> None:
    for kwargs in (
        {"padding": 5000, "dilation": 5000},
        {"padding": 498, "stride": 1000},
        {"padding": 995, "stride": 1000, "dilation": 500},
    ):
        compare(
            F.conv_transpose2d, (1, 16, 2, 3), (16, 16 // groups, 3, 3), groups=groups, **kwargs
        )


@pytest.mark.parametrize("groups", [1, 4, 32])
@pytest.mark.parametrize("last", [10**9, 2**40, 2**62, LAST])
def test_a_step_that_leads_nowhere(groups: int, last: int) -> None:
    """The dilation of one tap and the stride of one output may be any number."""
    x, group = (2, 32, 6, 5), {"groups": groups}
    for w, kwargs, like in (
        ((32, 32 // groups, 1, 1), {"dilation": last}, {"dilation": 1}),
        (
            (32, 32 // groups, 3, 1),
            {"dilation": (1, last), "padding": (1, 0)},
            {"dilation": (1, 1), "padding": (1, 0)},
        ),
        ((32, 32 // groups, 3, 3), {"stride": last}, {"stride": 100}),
        ((32, 32 // groups, 3, 3), {"stride": (1, last)}, {"stride": (1, 100)}),
    ):
        compare(F.conv2d, x, w, like, **kwargs, **group)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kernel", RUNNABLE, ids=lambda k: k.name)
def test_time_does_not_grow_with_what_lies_outside(kernel: registry.Kernel) -> None:
    """A stride of thousands or a dilation of thousands against the same ten times less."""
    forms = ("st{0}_pd1_dl1", "st1_pd{0}_dl{0}", "st2_pd{0}_dl{0}", "st{0}_pd{0}_dl1")
    for form in forms:
        for channels in ("c16_h8w9_k16_r3s3_{}_g1", "c32_h8w9_k32_r3s3_{}_g4",
                         "c32_h8w9_k32_r3s3_{}_g2", "c32_h8w9_k32_r3s3_{}_g32",
                         "c3_h8w9_k16_r3s3_{}_g1", "c16_h8w9_k16_r1s1_{}_g1"):  # fmt: skip
            near, far = (
                ConvProblem.decode("n1_" + channels.format(form.format(n))) for n in (30, 3000)
            )
            if far.y_elements > 10**5 or any(
                CONV.why_not(kernel.name, str(p)) for p in (near, far)
            ):
                continue
            times = [seconds(kernel, p) for p in (near, far)]
            assert times[1] < 20 * times[0] + 1e-3, f"{kernel.name} on {far}: {times}"


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = core.num_threads()
    core.set_threads(1)
    yield
    core.set_threads(before)


def seconds(kernel: registry.Kernel, p: ConvProblem) -> float:
    """Of this thread's own time, which neighbours do not lengthen."""
    given = inputs.stored(p, kernel.direction, inputs.operands(p, integers=False))
    best = float("inf")
    for _ in range(3):
        start = time.thread_time()
        CONV.run(kernel.name, p.encode(), **given)
        best = min(best, time.thread_time() - start)
    return best
