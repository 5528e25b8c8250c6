"""What pooling keeps of a call for its gradient, and results and images that are large."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers_torch import assert_close, of_torch
from test_pool import last_kernel_nhwc, make
from torch import Tensor

import fastconv
import fastconv.functional as ours


def test_a_gradient_keeps_a_byte_an_output() -> None:
    """And not the input, as torch's does beside eight."""
    kept: list[Tensor] = []

    def keep(t: Tensor) -> Tensor:
        kept.append(t)
        return t

    x = make((2, 19, 9, 7), torch.float32, True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        y = ours.max_pool2d(x, 3, 2)
        ours.avg_pool2d(x, 3, 2)
    assert [(t.dtype, t.shape) for t in kept] == [(torch.uint8, y.shape)]
    # Where torch's kernel is faster than a row of ours, it runs, and needs its own indices.
    kept.clear()
    plain = x.detach().contiguous().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        y = ours.max_pool2d(plain, 3, 2)
    assert [(t.dtype, t.shape) for t in kept] == [(torch.int64, y.shape)]


@pytest.mark.parametrize("last", [True, False], ids=["channels_last", "contiguous"])
def test_results_larger_than_the_caches(last: bool) -> None:
    """Which some rows store past them."""
    x = torch.randn(1, 16, 480, 480)
    x = (x.contiguous(memory_format=torch.channels_last) if last else x).requires_grad_()
    for name in ("max_pool2d", "avg_pool2d"):
        want = of_torch(name, x, 2)
        have = getattr(ours, name)(x, 2)
        dy = torch.randn_like(want)
        for mine, other in zip(
            (have, *torch.autograd.grad(have, x, dy)),
            (want, *torch.autograd.grad(want, x, dy)),
            strict=True,
        ):
            assert_close(mine, other)
        with torch.inference_mode():
            assert_close(getattr(ours, name)(x, 2), want)


def test_large_images_in_portions() -> None:
    """Images that lie otherwise than their result are transposed a few at a time."""
    x = torch.randn(6, 32, 160, 160)
    with fastconv.use(str(last_kernel_nhwc())):
        assert_close(ours.avg_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 3, 2, 1))
        assert_close(ours.max_pool2d(x, 3, 2, 1), F.max_pool2d(x, 3, 2, 1))
