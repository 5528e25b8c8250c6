"""fastconv under torch's own convolutions."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from helpers_torch import FORMS, assert_close, operands
from torch.profiler import ProfilerActivity, profile

import fastconv
from fastconv import _native
from fastconv.enable import enabled, is_enabled

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def off() -> Iterator[None]:
    yield
    fastconv.disable()


def runs_natively(call: object) -> bool:
    """Whether torch's own kernels are seen below aten::convolution while `call` runs."""
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        call()  # type: ignore[operator]
    return any(e.name == "aten::_convolution" or "mkldnn" in e.name for e in trace.events())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels_last", ["", "x", "w", "xw"])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_values_strides_and_gradients(form, channels_last, dtype) -> None:
    x, w, b, kwargs = operands(form, dtype, channels_last, requires_grad=True)
    expected = F.conv2d(x, w, b, **kwargs)
    grad = torch.randn_like(expected.detach().double()).to(dtype)
    theirs = torch.autograd.grad(expected, (x, w, b), grad)
    with enabled():
        out = F.conv2d(x, w, b, **kwargs)
        ours = torch.autograd.grad(out, (x, w, b), grad)
    assert out.stride() == expected.stride()
    assert ours[0].stride() == theirs[0].stride()
    assert ours[1].stride() == w.stride()
    assert_close(out, expected)
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine, other)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_one_to_three_axes_and_transposed(axes, transposed, groups) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, *range(5, 5 + axes), dtype=torch.float64, requires_grad=True)
    w = torch.randn(4, 4 // groups, *(3,) * axes, dtype=torch.float64, requires_grad=True)
    b = torch.randn(4, dtype=torch.float64, requires_grad=True)
    name = f"conv_transpose{axes}d" if transposed else f"conv{axes}d"
    kwargs = {"stride": 2, "padding": 1, "groups": groups}
    if transposed:
        kwargs["output_padding"] = 1
    call = getattr(F, name)
    expected = call(x, w, b, **kwargs)
    theirs = torch.autograd.grad(expected.square().sum(), (x, w, b))
    with enabled():
        assert not runs_natively(lambda: call(x, w, b, **kwargs))
        out = call(x, w, b, **kwargs)
        ours = torch.autograd.grad(out.square().sum(), (x, w, b))
    assert_close(out, expected)
    assert out.stride() == expected.stride()
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine, other)
        assert mine.stride() == other.stride()


def test_operands_that_are_not_dense() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 9, 8, 2)[:, ::2, 1:, :, 1]
    w = torch.randn(4, 3, 3, 6)[..., ::2].requires_grad_()
    expected = F.conv2d(x, w)
    with enabled():
        out = F.conv2d(x, w)
        (grad,) = torch.autograd.grad(out, w, torch.ones(()).expand_as(out))
    assert_close(out, expected)
    (theirs,) = torch.autograd.grad(expected, w, torch.ones_like(out))
    assert_close(grad, theirs)


def test_gradient_keeps_the_strides_of_size_one_axes() -> None:
    w = torch.empty_strided((4, 3, 1, 1), (3, 1, 3, 3)).normal_().requires_grad_()
    with enabled():
        F.conv2d(torch.randn(2, 3, 4, 4), w).sum().backward()
    assert w.grad is not None and w.grad.stride() == (3, 1, 3, 3)


def test_empty_batch() -> None:
    x = torch.randn(0, 3, 6, 6, requires_grad=True)
    w = torch.randn(4, 3, 3, 3, requires_grad=True)
    with enabled():
        out = F.conv2d(x, w)
        out.sum().backward()
    assert out.shape == (0, 4, 4, 4)
    assert x.grad is not None and x.grad.shape == x.shape
    assert w.grad is not None and not w.grad.any()


def test_derivatives_of_every_kind() -> None:
    form = ((1, 4, 5, 4), (2, 2, 2, 1), {"stride": 2, "padding": (0, 1), "groups": 2})
    x, w, b, kwargs = operands(form, requires_grad=True)

    def call(x, w, b):
        return F.conv2d(x, w, b, **kwargs)

    with enabled():
        assert torch.autograd.gradcheck(
            call, (x, w, b), check_forward_ad=True, check_batched_grad=True
        )
        assert torch.autograd.gradgradcheck(call, (x, w, b))


def test_transforms() -> None:
    x, w, b, _ = operands(FORMS[0])
    xs = torch.stack([x, 2 * x])

    def loss(w, x):
        return F.conv2d(x, w, b).square().sum()

    def everything():
        per_sample = torch.func.vmap(torch.func.grad(loss), (None, 0))(w, xs)
        _, tangent = torch.func.jvp(lambda w: F.conv2d(x, w, b), (w,), (w,))
        jacobian = torch.func.jacrev(lambda w: F.conv2d(x[:1], w, b))(w)
        hessian = torch.func.jacfwd(torch.func.grad(loss))(w, x)
        return per_sample, tangent, jacobian, hessian

    expected = everything()
    with enabled():
        for mine, other in zip(everything(), expected, strict=True):
            assert_close(mine, other)


def test_autocast_and_flops() -> None:
    x, w, b, _ = operands(FORMS[0], torch.float32)
    with enabled():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert F.conv2d(x, w, b).dtype == torch.bfloat16
        with torch.utils.flop_counter.FlopCounterMode(display=False) as flops:
            out = F.conv2d(x, w, b)
    assert flops.get_total_flops() == 2 * out.numel() * w[0].numel()


def test_compiled_code_asks_when_it_runs() -> None:
    x, w, b, _ = operands(FORMS[0], torch.float32, requires_grad=True)
    compiled = torch.compile(lambda x, w, b: F.conv2d(x, w, b).relu(), backend="aot_eager")
    expected = compiled(x, w, b)
    with enabled():
        assert not runs_natively(lambda: compiled(x, w, b).sum().backward())
        assert_close(compiled(x, w, b), expected)
    assert runs_natively(lambda: compiled(x, w, b))


def test_scopes_nest_and_decorate() -> None:
    assert not is_enabled()
    with enabled():
        with enabled(False):
            assert not is_enabled()
        assert is_enabled()
    assert not is_enabled()
    assert enabled()(is_enabled)()
    fastconv.enable()
    with enabled(False):
        assert not is_enabled()
    assert is_enabled()
    fastconv.disable()
    assert not is_enabled()


def test_scope_ends_with_an_exception() -> None:
    with pytest.raises(KeyError), enabled():
        raise KeyError
    assert not is_enabled()


def test_scope_is_the_threads_own_and_enable_the_processs() -> None:
    seen: list[bool] = []

    def ask() -> None:
        thread = threading.Thread(target=lambda: seen.append(is_enabled()))
        thread.start()
        thread.join()

    with enabled():
        ask()
    fastconv.enable()
    ask()
    assert seen == [False, True]


def test_backward_follows_the_place_where_it_is_called() -> None:
    x, w, b, _ = operands(FORMS[0], torch.float32, requires_grad=True)
    with enabled():
        inside = F.conv2d(x, w, b).sum()
        F.conv2d(x, w, b).sum().backward()
    assert fastconv.last_kernel("wgrad") is not None
    inside.backward()
    assert fastconv.last_kernel("wgrad") is None
    outside = F.conv2d(x, w, b).sum()
    with enabled():
        outside.backward()
    assert fastconv.last_kernel("dgrad") is not None


INVALID = [
    (lambda: F.conv2d(torch.ones(1, 3, 4, 4), torch.ones(2, 4, 3, 3))),
    (lambda: F.conv2d(torch.ones(1, 3, 4, 4), torch.ones(2, 3, 5, 5))),
    (lambda: F.conv2d(torch.ones(1, 3, 4, 4), torch.ones(2, 3, 3, 3), torch.ones(3))),
    (lambda: F.conv2d(torch.ones(1, 3, 4, 4), torch.ones(2, 3, 3, 3), stride=0)),
    (lambda: F.conv2d(torch.ones(1, 3, 4, 4), torch.ones(2, 3, 3, 3), padding=-1)),
    (lambda: F.conv2d(torch.ones(1, 3, 4, 4), torch.ones(2, 3, 3, 3), dilation=0)),
    (lambda: F.conv2d(torch.ones(1, 3, 4, 4), torch.ones(2, 3, 3, 3), groups=0)),
    (lambda: F.conv2d(torch.ones(1, 4, 4, 4), torch.ones(3, 2, 3, 3), groups=2)),
    (lambda: F.conv2d(torch.ones(1, 3, 4, 4), torch.ones(2, 3, 3, 3).double())),
    (lambda: F.conv_transpose2d(torch.ones(1, 3, 4, 4), torch.ones(3, 2, 3, 3), output_padding=2)),
]


@pytest.mark.parametrize("call", INVALID)
def test_errors_are_torchs(call) -> None:
    with pytest.raises(Exception) as theirs:
        call()
    with enabled(), pytest.raises(type(theirs.value)) as ours:
        call()
    assert str(ours.value) == str(theirs.value)


def test_complex_and_integers_stay_with_torch() -> None:
    x, w, _, _ = operands(FORMS[0])
    with enabled():
        assert F.conv2d(x.to(torch.complex64), w.to(torch.complex64)).dtype == torch.complex64
        integers = F.conv2d(
            torch.ones(1, 1, 3, 3, dtype=torch.int64), torch.ones(1, 1, 3, 3, dtype=torch.int64)
        )
    assert integers.item() == 9


def test_named_kernel_serves_or_says_why_not() -> None:
    x, w, b, _ = operands(FORMS[0], torch.float32)
    with fastconv.use("conv_fprop_ref"), enabled():
        out = F.conv2d(x, w, b)
    assert_close(out, F.conv2d(x, w, b))
    with pytest.raises(ValueError, match="conv_fprop_ref"), fastconv.use("conv_fprop_reff"):
        pass


def test_precision_is_scoped() -> None:
    assert fastconv.get_precision() == "high"
    with fastconv.precision("exact"):
        assert fastconv.get_precision() == "exact"
        with fastconv.precision("fast"):
            assert fastconv.get_precision() == "fast"
    assert fastconv.get_precision() == "high"
    with pytest.raises(ValueError, match="'low'"), fastconv.precision("low"):
        pass


def run_python(code: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout + result.stderr


def test_import_leaves_torch_alone() -> None:
    text = run_python(
        "import torch, fastconv\n"
        "print(torch._C._dispatch_has_kernel_for_dispatch_key('aten::convolution', 'CPU'))\n"
        "fastconv.enable()\n"
        "print(torch._C._dispatch_has_kernel_for_dispatch_key('aten::convolution', 'CPU'))\n"
    )
    assert text.split() == ["False", "True"]


def test_disable_takes_the_kernels_away_where_no_other_thread_is() -> None:
    text = run_python(
        "import threading, torch, fastconv\n"
        "def has():\n"
        "    ops = ('aten::convolution', 'aten::convolution_backward')\n"
        "    return {torch._C._dispatch_has_kernel_for_dispatch_key(op, 'CPU') for op in ops}\n"
        "x, w = torch.randn(1, 3, 8, 8), torch.randn(4, 3, 3, 3, requires_grad=True)\n"
        "def call():\n"
        "    out = torch.nn.functional.conv2d(x, w)\n"
        "    out.sum().backward()\n"
        "    return out\n"
        "expected = call()\n"
        "for _ in range(3):\n"
        "    fastconv.enable()\n"
        "    assert has() == {True}\n"
        "    torch.testing.assert_close(call(), expected)\n"
        "    assert fastconv.last_kernel('wgrad') is not None\n"
        "    fastconv.disable()\n"
        "    assert has() == {False}\n"
        "    torch.testing.assert_close(call(), expected)\n"
        "with fastconv.enabled():\n"  # a scope outlives disable()
        "    fastconv.disable()\n"
        "    assert has() == {True} and fastconv.is_enabled()\n"
        "    call()\n"
        "    assert fastconv.last_kernel('fprop') is not None\n"
        "fastconv.enable()\n"
        "wait = threading.Event()\n"
        "other = threading.Thread(target=wait.wait)\n"
        "other.start()\n"
        "fastconv.disable()\n"
        "assert has() == {True}\n"  # it may be on its way into one
        "torch.testing.assert_close(call(), expected)\n"
        "wait.set()\n"
        "other.join()\n"
        "fastconv.disable()\n"
        "assert has() == {False}\n"
        "print('done')\n"
    )
    assert "done" in text


def test_works_without_the_library() -> None:
    text = run_python(
        "import torch, fastconv\n"
        "layer = fastconv.nn.Conv2d(3, 4, 3).eval()\n"
        "print(layer(torch.ones(1, 3, 5, 5)).shape)\n"
        "fastconv.enable()\n"
        "print(fastconv.is_enabled())\n",
        FASTCONV_SKIP_NATIVE="1",
        TRITON_INTERPRET="0",
    )
    assert "torch.Size([1, 4, 3, 3])" in text
    assert "FASTCONV_SKIP_NATIVE=1" in text and "False" in text


def test_fallback_error_reaches_no_native_kernel() -> None:
    assert _native.lib is not None
    for form in FORMS:
        x, w, b, kwargs = operands(form, torch.float64, requires_grad=True)
        with enabled():
            assert not runs_natively(lambda: F.conv2d(x, w, b, **kwargs).sum().backward())  # noqa: B023


def test_what_it_says_of_itself() -> None:
    """Pools too, and what stays with torch."""
    for told in (fastconv, fastconv.enable, fastconv.is_enabled):
        assert "pool" in str(told.__doc__)
    assert "auto_reason" in str(fastconv.enable.__doc__)
    assert 'last_kernel("dgrad", "pool")' in str(fastconv.last_kernel.__doc__)
