"""Run by test_fallback.py with FASTCONV_FALLBACK unset, as users run it: torch's kernel serves where no
row is known to win.
"""

from __future__ import annotations

import os

import pytest
import torch
import torch.nn.functional as F
from helpers_torch import FORMS, assert_close, gradients, operands

import fastconv
from fastconv.ops.conv import geometry_id
from fastconv.ops.formulas import Geometry

ops = torch.ops.fastconv
DIRECTIONS = ("fprop", "dgrad", "wgrad")


@pytest.fixture(autouse=True)
def unset() -> None:
    assert os.environ.get("FASTCONV_FALLBACK") == ""


def wins(x: torch.Tensor, w: torch.Tensor, geometry: Geometry) -> tuple[bool, ...]:
    """For each direction, whether a row is known to win."""
    chosen = (ops.conv_choice(x, w, *geometry, direction=d) for d in DIRECTIONS)
    return tuple(not choice.startswith("torch:") for choice in chosen)


def ours() -> tuple[bool, ...]:
    """For each direction, whether the last call ran on a row."""
    return tuple(fastconv.last_kernel(d) is not None for d in DIRECTIONS)


def problems() -> list[tuple[torch.Tensor, torch.Tensor, Geometry]]:
    torch.manual_seed(0)
    found = []
    for channels, filters, groups, r, size, stride in (
        (1, 1, 1, 1, 3, 1), (1, 8, 1, 3, 9, 1), (3, 16, 1, 3, 32, 2), (3, 32, 1, 7, 40, 2),
        (4, 4, 1, 3, 9, 1), (8, 8, 8, 3, 14, 1), (16, 16, 1, 1, 14, 1), (16, 16, 1, 3, 14, 1),
        (16, 16, 1, 3, 14, 2), (24, 24, 2, 5, 14, 1), (32, 32, 8, 3, 14, 1), (32, 1, 1, 3, 14, 1),
        (32, 64, 1, 1, 14, 2), (64, 64, 1, 3, 14, 1), (64, 64, 64, 3, 14, 2), (64, 64, 1, 5, 9, 3),
        (64, 128, 1, 3, 28, 2), (128, 128, 1, 2, 6, 2), (128, 64, 1, 4, 7, 1), (2, 2, 1, 3, 40, 1),
    ):  # fmt: skip
        geometry = Geometry((stride,) * 2, (r // 2,) * 2, (1, 1), groups)
        x = torch.randn(2, channels, size, size)
        w = torch.randn(filters, channels // groups, r, r)
        if size % 2 == 0:
            x, w = (t.contiguous(memory_format=torch.channels_last) for t in (x, w))
        found.append((x, w, geometry))
    return found


PROBLEMS = problems()


def test_the_problems_reach_every_branch() -> None:
    """All of a backward torch's, all ours, and each half alone, in float32 or another dtype."""
    halves = {wins(x.to(d), w.to(d), g)[1:] for x, w, g in PROBLEMS for d in DTYPES}
    assert halves >= {(False, False), (True, True)}
    assert halves & {(True, False), (False, True)}


DTYPES = [torch.float32, torch.float64, torch.bfloat16]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_under_aten(dtype, transposed) -> None:
    for x, w, geometry in PROBLEMS:
        x, w = (t.to(dtype, copy=True).requires_grad_() for t in (x, w))
        expected_wins = wins(x, w, geometry)
        if transposed:
            x = torch.randn_like(F.conv2d(x, w, None, *geometry)).detach().requires_grad_()
            b = torch.randn(w.shape[1] * geometry.groups, dtype=dtype, requires_grad=True)
            call = F.conv_transpose2d
            arguments = (geometry.stride, geometry.padding, 0, geometry.groups)
        else:
            b = torch.randn(w.shape[0], dtype=dtype, requires_grad=True)
            call = F.conv2d
            arguments = geometry
        expected = call(x, w, b, *arguments)
        dy = torch.randn_like(expected)
        theirs = torch.autograd.grad(expected, (x, w, b), dy)
        with fastconv.enabled():
            out = call(x, w, b, *arguments)
            mine = torch.autograd.grad(out, (x, w, b), dy)
        if not transposed:
            assert ours() == expected_wins, geometry
        assert out.stride() == expected.stride()
        for a, c in zip((out, *mine), (expected, *theirs), strict=True):
            scale = float(c.detach().abs().max()) or 1.0
            assert_close(a / scale, c / scale)
            assert a.stride() == c.stride() or a is mine[1]  # has the weight's, torch's may not


@pytest.mark.parametrize("needs", [1, 2, 3, 4, 5, 6, 7])
def test_each_gradient_alone(needs) -> None:
    for x, w, geometry in PROBLEMS:
        dy = torch.randn_like(F.conv2d(x, w, None, *geometry))
        mask = [bool(needs & bit) for bit in (1, 2, 4)]
        arguments = (geometry.stride, geometry.padding, geometry.dilation, False, (0, 0))
        theirs = torch.ops.aten.convolution_backward(
            dy, x, w, [w.shape[0]], *arguments, geometry.groups, mask
        )
        mine = ops._conv_backward(dy, x, w, geometry_id(geometry), needs)
        for a, c, wanted in zip(mine, theirs, mask, strict=True):
            assert (a is not None) == wanted
            if wanted:
                scale = float(c.abs().max())
                assert_close(a / scale, c / scale)


def test_operands_that_are_not_dense() -> None:
    for x, w, geometry in PROBLEMS:
        wide = torch.randn(*x.shape[:-1], 2 * x.shape[-1])[..., ::2]
        expected = F.conv2d(wide, w, None, *geometry)
        dy = torch.randn(*expected.shape, 2)[..., 0]
        theirs = torch.ops.aten.convolution_backward(
            dy, wide, w, [w.shape[0]], *geometry[:3], False, (0, 0), geometry.groups, [True] * 3
        )
        mine = ops._conv_backward(dy, wide, w, geometry_id(geometry), 7)
        for a, c in zip(
            (ops._conv(wide, w, None, geometry_id(geometry)), *mine), (expected, *theirs),
            strict=True,
        ):  # fmt: skip
            scale = float(c.abs().max())
            assert_close(a / scale, c / scale)


def test_own_ops() -> None:
    for x, w, geometry in PROBLEMS:
        expected_wins = wins(x, w, geometry)
        b, c = torch.randn(w.shape[0]), torch.randn(x.shape[1])
        expected = F.conv2d(x, w, b, *geometry)
        out = ops.conv(x, w, b, *geometry)
        assert ours()[0] == expected_wins[0]
        scale = float(expected.abs().max())
        assert_close(out / scale, expected / scale)
        dy = torch.randn_like(expected)
        dx, dw, _ = torch.ops.aten.convolution_backward(
            dy, x, w, None, *geometry[:3], False, (0, 0), geometry.groups, [True, True, False]
        )
        for bias in (None, c):
            wanted = dx if bias is None else dx + c.reshape(-1, 1, 1)
            mine = ops.conv_dgrad(dy, w, bias, x.shape, *geometry)
            assert ours()[1] == expected_wins[1]
            scale = float(wanted.abs().max())
            assert_close(mine / scale, wanted / scale)
            assert mine.stride() == dx.stride()
        mine = ops.conv_wgrad(dy, x, w.shape, w.stride(), *geometry)
        assert ours()[2] == expected_wins[2]
        scale = float(dw.abs().max())
        assert_close(mine / scale, dw / scale)
        assert mine.stride() == w.stride()


def test_an_epilogue_always_runs_on_a_row() -> None:
    for x, w, geometry in PROBLEMS:
        sums = F.conv2d(x, w, None, *geometry)
        scale, residual = torch.rand(w.shape[0]), torch.randn_like(sums)
        out = ops.conv(
            x, w, None, *geometry, scale=scale, residual=residual, activation="relu"
        )  # fmt: skip
        assert ours()[0]
        expected = (sums * scale.reshape(-1, 1, 1) + residual).relu()
        most = float(expected.abs().max())
        assert_close(out / most, expected / most)


def test_functions_and_layers() -> None:
    for form in FORMS:
        for dtype in DTYPES:
            x, w, b, kwargs = operands(form, dtype, requires_grad=True)
            expected = F.conv2d(x, w, b, **kwargs)
            out = fastconv.functional.conv2d(x, w, b, **kwargs)
            assert_close(out, expected)
            for a, c in zip(
                gradients(out, (x, w, b)), gradients(expected, (x, w, b)), strict=True
            ):  # fmt: skip
                assert_close(a, c)
    for x, w, geometry in PROBLEMS:
        layer = fastconv.nn.Conv2d(
            x.shape[1], w.shape[0], w.shape[2:], *geometry[:3], groups=geometry.groups
        ).eval()
        with torch.no_grad():
            for _ in range(3):
                expected = F.conv2d(x, layer.weight, layer.bias, *geometry)
                assert_close(layer(x), expected)


def test_a_call_without_memory_is_torchs() -> None:
    """A workspace of 100 GB: nobody's, unless the kernel was asked for by name."""
    x, w = torch.randn(1, 64, 8, 8), torch.randn(64, 64, 3, 3)
    far = Geometry((1, 1), (200000, 200000), (200000, 200000), 1)
    expected = F.conv2d(x, w, None, *far)
    with fastconv.enabled():
        assert_close(F.conv2d(x, w, None, *far), expected)
    assert_close(fastconv.functional.conv2d(x, w, None, *far), expected)
    relu = ops.conv(x, w, None, *far, activation="relu")
    assert_close(relu, expected.relu())
