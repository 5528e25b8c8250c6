"""What `test_portable.py` runs in a process without the op library: not collected by itself."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from helpers_torch import FORMS, POOLS, assert_close, assert_same_pool, gradients, operands
from helpers_triton import quick_interpreter

import fastconv
from fastconv import _native
from fastconv.ops import pool, portable

assert _native.lib is None, "to be run with FASTCONV_SKIP_NATIVE=1"
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with quick_interpreter():
        yield


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_functional(form, dtype) -> None:
    for channels_last in ("", "xw"):
        x, w, b, kwargs = operands(form, dtype, channels_last, requires_grad=True)
        want = F.conv2d(x, w, b, **kwargs)
        have = fastconv.functional.conv2d(x, w, b, **kwargs)
        name = fastconv.last_kernel("fprop")
        assert name is not None and name.endswith("_triton")
        assert have.stride() == want.stride()
        assert_close(have, want)
        ours, theirs = gradients(have, (x, w, b)), gradients(want, (x, w, b))
        assert ours[0].stride() == theirs[0].stride()
        assert ours[1].stride() == w.stride()
        for mine, other in zip(ours, theirs, strict=True):
            assert_close(mine, other)
        assert fastconv.last_kernel("dgrad") is not None
        assert fastconv.last_kernel("wgrad") is not None


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_under_aten(axes: int, transposed: bool) -> None:
    """Under `enable()`, with FASTCONV_FALLBACK=error: every direction runs on a Triton row."""
    name = f"conv_transpose{axes}d" if transposed else f"conv{axes}d"
    call = getattr(F, name)
    x = torch.randn(2, 4, *(6, 7, 5)[:axes], dtype=torch.float64, requires_grad=True)
    w = torch.randn(4, 2 if transposed else 4, *(3, 2, 3)[:axes], dtype=torch.float64)
    w.requires_grad_()
    b = torch.randn(2 if transposed else 4, dtype=torch.float64, requires_grad=True)
    extra = {"output_padding": 1} if transposed else {}
    want = call(x, w, b, stride=2, padding=1, **extra)
    theirs = gradients(want, (x, w, b))
    with fastconv.enabled():
        have = call(x, w, b, stride=2, padding=1, **extra)
        for direction in ("dgrad" if transposed else "fprop",):
            assert str(fastconv.last_kernel(direction)).endswith("_triton")
        ours = gradients(have, (x, w, b))
    for direction in ("fprop", "dgrad", "wgrad"):
        assert str(fastconv.last_kernel(direction)).endswith("_triton")
    for mine, other in zip((have, *ours), (want, *theirs), strict=True):
        assert mine.stride() == other.stride()
        assert_close(mine, other)
    with fastconv.enabled(False):
        call(x, w, b)
    assert fastconv.last_kernel("dgrad" if transposed else "fprop") is None


def test_gradcheck() -> None:
    x = torch.randn(1, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    w = torch.randn(2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, dtype=torch.float64, requires_grad=True)

    def call(*args: torch.Tensor) -> torch.Tensor:
        return fastconv.functional.conv2d(*args, padding=1, groups=2)

    assert torch.autograd.gradcheck(call, (x, w, b))
    assert torch.autograd.gradgradcheck(call, (x, w, b), fast_mode=True)


def test_epilogue() -> None:
    x, w, b, _ = operands(FORMS[0], torch.float32, "xw")
    scale, residual = torch.randn(4), torch.randn(2, 4, 5, 4)
    one = [1, 1]
    have = torch.ops.fastconv.conv(
        x, w, b, one, [0, 0], one, 1, scale=scale, residual=residual, activation="relu"
    )
    sums = F.conv2d(x, w) * scale.reshape(-1, 1, 1) + b.reshape(-1, 1, 1)
    assert_close(have, F.relu(sums + residual))
    for option, words in (
        ({"scale": scale[:3]}, "scale has to be one number per output channel"),
        ({"residual": residual[:1]}, "residual has to have the output's shape"),
        ({"activation": "gelu"}, "activation='gelu' is not one of"),
        ({"kernel_name": "conv_fprop_ref"}, "it is none of Triton's kernels"),
        ({"kernel_name": "conv_fprop_depthwise_nhwc_triton"}, "does not take"),
    ):
        with pytest.raises(RuntimeError, match=words):
            torch.ops.fastconv.conv(x, w, b, one, [0, 0], one, 1, **option)


def test_errors_are_torchs() -> None:
    x, w = torch.randn(2, 3, 5, 5), torch.randn(4, 2, 3, 3)
    with pytest.raises(RuntimeError) as theirs:
        F.conv2d(x, w)
    with pytest.raises(RuntimeError) as ours:
        fastconv.functional.conv2d(x, w)
    assert str(ours.value) == str(theirs.value)
    with fastconv.enabled(), pytest.raises(RuntimeError) as under:
        F.conv2d(x, w)
    assert str(under.value) == str(theirs.value)


def test_settings() -> None:
    x, w, _, _ = operands(FORMS[0], torch.float32)
    with fastconv.use("conv_fprop_direct_nhwc_triton"):
        fastconv.functional.conv2d(x, w)
        assert fastconv.last_kernel("fprop") == "conv_fprop_direct_nhwc_triton"
    with fastconv.precision("exact"):
        fastconv.functional.conv2d(x, w)
        name = fastconv.last_kernel("fprop")
        assert name is not None and "tf32" not in name and "winograd" not in name
    wrong = "conv_fprop_direkt_nhwc_triton"
    with pytest.raises(ValueError, match=f"no kernel is named '{wrong}'"), fastconv.use(wrong):
        pass
    assert "_triton" in torch.ops.fastconv.conv_choice(x, w, [1, 1], [0, 0], [1, 1], 1)


def test_it_is_said_once() -> None:
    text = subprocess.run(
        [sys.executable, "-c", "import fastconv, fastconv.nn"],
        capture_output=True, text=True, check=True,
    ).stderr  # fmt: skip
    assert text.count("fastconv: installed without native kernels") == 1
    assert "FASTCONV_SKIP_NATIVE=1" in text


def test_modules_and_vmap() -> None:
    layer = fastconv.nn.Conv2d(3, 4, 3, padding=1).eval()
    x = torch.randn(2, 3, 6, 5)
    with torch.no_grad():
        assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias, padding=1))
    batched = torch.func.vmap(lambda t: fastconv.functional.conv2d(t, layer.weight))(x[:, None])
    assert_close(batched, F.conv2d(x, layer.weight)[:, None])


@pytest.mark.parametrize("name", ["triton_conv", "triton_conv_dgrad", "triton_conv_wgrad"])
def test_ops_for_compilers_in_eager(name: str) -> None:
    x, w, _, _ = operands(FORMS[0], torch.float64)
    one, none = [1, 1], [0, 0]
    dy = torch.randn(2, 4, 5, 4, dtype=torch.float64)
    arguments = {
        "triton_conv": (x, w, None),
        "triton_conv_dgrad": (dy, w, x.shape),
        "triton_conv_wgrad": (dy, x, w.shape, w.stride()),
    }[name]
    plain = getattr(portable, name.removeprefix("triton_"))
    given = arguments[:2] + ((None, *arguments[2:]) if "dgrad" in name else arguments[2:])
    want = plain(*given, one, none, one, 1)
    assert_close(getattr(torch.ops.fastconv, name)(*arguments, one, none, one, 1), want)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_transposed(axes: int) -> None:
    layer = getattr(fastconv.nn, f"ConvTranspose{axes}d")(4, 6, 3, 2, 1, 1, groups=2).double()
    x = torch.randn(2, 4, *(4, 3, 3)[:axes], dtype=torch.float64, requires_grad=True)
    call = getattr(F, f"conv_transpose{axes}d")
    want = call(x, layer.weight, layer.bias, 2, 1, 1, 2)
    have = layer(x)
    assert str(fastconv.last_kernel("dgrad")).endswith("_triton")
    assert_close(have, want)
    inputs = (x, layer.weight, layer.bias)
    for mine, other in zip(gradients(have, inputs), gradients(want, inputs), strict=True):
        assert_close(mine, other)


@pytest.mark.parametrize("form", FORMS[:7], ids=str)
def test_own_ops_hand_over_as_calls_under_aten_do(form, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no row is known to win, as in the native build."""
    monkeypatch.setenv("FASTCONV_FALLBACK", "")
    x, w, b, kwargs = operands(form, torch.float32, requires_grad=True)
    ran = []
    for call in (F.conv2d, fastconv.functional.conv2d):
        with fastconv.enabled():
            gradients(call(x, w, b, **kwargs), (x, w, b))
        ran.append([fastconv.last_kernel(d) for d in ("fprop", "dgrad", "wgrad")])
    assert ran[0] == ran[1]
    layer = fastconv.nn.Conv2d(3, 4, 3)
    (told,) = fastconv.explain(layer, torch.randn(1, 3, 6, 6))
    layer(torch.randn(1, 3, 6, 6))
    assert told.kernel == fastconv.last_kernel("fprop")


def test_nothing_to_freeze() -> None:
    model = torch.nn.Sequential(fastconv.nn.Conv2d(3, 4, 3)).eval()
    assert fastconv.freeze(model) == []
    fastconv.unfreeze(model)
    fastconv.revert(model)
    assert type(model[0]) is torch.nn.Conv2d


@pytest.mark.parametrize("form", POOLS, ids=str)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_pools(layout: str, form) -> None:
    """By the functions and under `enable()`, on Triton's rows; the dtypes go round."""
    dtype = DTYPES[POOLS.index(form) % len(DTYPES)]
    ran = assert_same_pool(fastconv.functional, form, layout, dtype)
    assert all(str(name).endswith("_triton") for name in ran)
    with fastconv.enabled():
        assert assert_same_pool(F, form, layout, dtype) == ran
    assert_same_pool(F, form, layout, dtype)
    assert [fastconv.last_kernel(d, "pool") for d in ("fprop", "dgrad")] == [None, None]


def test_gradcheck_of_pools() -> None:
    x = torch.randn(1, 1, 4, 3, dtype=torch.float64, requires_grad=True)
    for call in (
        lambda x: fastconv.functional.max_pool2d(x, 2, 2, 1),
        lambda x: fastconv.functional.avg_pool2d(x, 2, 2, 1, count_include_pad=False),
    ):
        assert torch.autograd.gradcheck(call, (x,), fast_mode=True)
        assert torch.autograd.gradgradcheck(call, (x,), fast_mode=True)


@pytest.mark.parametrize("name", pool.SCHEMAS)
def test_pools_for_compilers_in_eager(name: str) -> None:
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    kind = pool.KINDS[name.removesuffix("_backward")]
    window = ([3, 3], [2, 2], [1, 1])
    arguments = {"max_pool": (*window, [1, 1], False), "avg_pool": (*window, False, True, None)}
    given = arguments.get(kind.name, ([4, 3],))
    through = dataclasses.replace(kind, sees_through=True)
    made = [each.forward(x, given) for each in (kind, through)]
    if name == kind.name:
        torch.testing.assert_close(made[1], made[0])
        return
    y, index = made[0] if kind.indexed else (made[0], None)
    ours, theirs = (each.backward(y, index, x.shape, False, given) for each in (through, kind))
    assert_close(ours, theirs)


def test_errors_of_pools_are_torchs() -> None:
    x = torch.randn(1, 2, 5, 5)
    with pytest.raises(RuntimeError) as theirs:
        F.max_pool2d(x, 2, 1, 2)
    for call in (fastconv.functional.max_pool2d, F.max_pool2d):
        with fastconv.enabled(), pytest.raises(RuntimeError) as ours:
            call(x, 2, 1, 2)
        assert str(ours.value) == str(theirs.value)
    wrong = pytest.raises(RuntimeError, match="it computes dgrad of pool, not fprop of pool")
    with wrong:
        torch.ops.fastconv.adaptive_avg_pool(x, [2, 2], "pool_dgrad_direct_nhwc_triton")
