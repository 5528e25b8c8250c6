"""Average pooling through every way in, beside torch's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers_torch import assert_close
from torch import Tensor

import fastconv
import fastconv.functional as ours
from fastconv.policy import last_kernel

ops = torch.ops.fastconv
#: (sizes, arguments of avg_pool2d)
FORMS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 8, 9, 7), {"kernel_size": 2}),
    ((2, 19, 9, 7), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ((1, 5, 12, 9), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)}),
    ((1, 4, 8, 8), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    ((1, 4, 8, 9), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False}),
    ((1, 16, 7, 7), {"kernel_size": 7}),
    ((2, 6, 6, 5), {"kernel_size": 3, "stride": 1, "padding": 1, "count_include_pad": False}),
    ((1, 6, 6, 6), {"kernel_size": 2, "divisor_override": 3}),
    ((3, 6, 5), {"kernel_size": 2}),
    ((0, 4, 6, 6), {"kernel_size": 2}),
]  # fmt: skip


def layer(x: Tensor, **arguments: Any) -> Tensor:
    return fastconv.nn.AvgPool2d(**arguments)(x)  # type: ignore[no-any-return]


def under_enable(x: Tensor, **arguments: Any) -> Tensor:
    with fastconv.enabled():
        return F.avg_pool2d(x, **arguments)


WAYS: list[Callable[..., Tensor]] = [ours.avg_pool2d, layer, under_enable]


def make(sizes: tuple[int, ...], dtype: torch.dtype, last: bool) -> Tensor:
    x = torch.randn(sizes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x.to(dtype)
    if last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    return x.requires_grad_()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("sizes", "arguments"), FORMS, ids=str)
def test_values_gradients_and_strides_are_torchs(way, last, dtype, sizes, arguments) -> None:
    x = make(sizes, dtype, last)
    want = F.avg_pool2d(x, **arguments)
    have = way(x, **arguments)
    assert_close(have, want)
    assert have.stride() == want.stride()
    dy = torch.randn_like(want)
    (want_dx,) = torch.autograd.grad(want, x, dy)
    with fastconv.enabled():
        (dx,) = torch.autograd.grad(have, x, dy)
    assert_close(dx, want_dx)
    assert dx.stride() == want_dx.stride()


def test_our_kernels_run() -> None:
    x = make((2, 19, 9, 7), torch.float32, True)
    for way in WAYS:
        y = way(x, kernel_size=3, stride=2, padding=1)
        assert str(last_kernel("fprop", "pool")).startswith("pool_fprop_direct_nhwc"), way
        with fastconv.enabled():
            y.sum().backward()
        assert str(last_kernel("dgrad", "pool")).startswith("pool_dgrad_direct_nhwc"), way
    with fastconv.use("pool_fprop_ref"):
        ours.avg_pool2d(x, 2)
    assert last_kernel("fprop", "pool") == "pool_fprop_ref"


def test_a_slice_and_a_transposed_image() -> None:
    x = torch.randn(2, 9, 8, 12)[:, 1:7, :, ::2]
    for t in (x, x.transpose(2, 3), x.transpose(0, 1)):
        assert_close(ours.avg_pool2d(t, 3, 2, 1), F.avg_pool2d(t, 3, 2, 1))
        assert_close(under_enable(t, kernel_size=3, stride=2), F.avg_pool2d(t, 3, 2))


BAD: list[dict[str, Any]] = [
    {"kernel_size": 0}, {"kernel_size": 9}, {"kernel_size": 2, "padding": 2},
    {"kernel_size": 2, "stride": 0}, {"kernel_size": 2, "divisor_override": 0},
    {"kernel_size": (2, 2, 2)}, {"kernel_size": 2.0},
]  # fmt: skip


@pytest.mark.parametrize("arguments", BAD, ids=str)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_errors_are_torchs(way, arguments) -> None:
    x = torch.randn(1, 2, 6, 6)
    with pytest.raises((RuntimeError, TypeError)) as want:
        F.avg_pool2d(x, **arguments)
    with pytest.raises(type(want.value)) as have:
        way(x, **arguments)

    def first_line(error: BaseException) -> str:  # which does not tell how arguments were given
        return re.sub(r" \(position \d+\)", "", str(error).splitlines()[0])

    assert first_line(have.value) == first_line(want.value)


def test_derivatives_of_every_kind() -> None:
    x = make((2, 3, 6, 5), torch.float64, False)

    def pool(t: Tensor) -> Tensor:
        return ours.avg_pool2d(t, 3, 2, 1, count_include_pad=False)

    torch.autograd.gradcheck(pool, x, check_forward_ad=True, check_batched_grad=True)
    torch.autograd.gradgradcheck(pool, x)
    batch = torch.randn(4, 2, 3, 6, 5)
    want = torch.stack([F.avg_pool2d(t, 3, 2, 1, count_include_pad=False) for t in batch])
    assert_close(torch.func.vmap(pool)(batch), want)
    assert_close(torch.func.vmap(pool, in_dims=1)(batch.transpose(0, 1)), want)


def test_the_ops_tell_torch_the_truth() -> None:
    x = make((2, 8, 6, 5), torch.float32, True)
    torch.library.opcheck(ops.avg_pool2d.default, (x, [3, 3], [2, 2], [1, 1]))
    y = torch.randn(2, 8, 3, 3).contiguous(memory_format=torch.channels_last)
    torch.library.opcheck(ops.avg_pool2d_backward.default, (y, x.detach(), [3, 3], [2, 2], [1, 1]))


def test_compiled_and_exported() -> None:
    model = torch.nn.Sequential(fastconv.nn.AvgPool2d(3, 2, 1), torch.nn.ReLU()).eval()
    x = torch.randn(2, 8, 9, 9)
    want = F.avg_pool2d(x, 3, 2, 1).relu()
    assert_close(torch.compile(model, backend="aot_eager", fullgraph=True)(x), want)
    graph = torch.export.export(model, (x,))
    assert "fastconv.avg_pool2d" in str(graph.graph)
    assert_close(graph.module()(x), want)
    traced = torch.jit.trace(model, x)
    assert "avg_pool2d" in str(traced.inlined_graph)
    assert_close(torch.jit.script(model)(x), want)
    assert [n.op for n in torch.fx.symbolic_trace(model).graph.nodes].count("call_module") == 2


def test_convert_explain_and_revert() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3), torch.nn.AvgPool2d(2)).eval()
    x = torch.randn(1, 8, 10, 10)
    want = model(x)
    assert fastconv.convert(model).swapped == ["0", "1"]
    assert type(model[1]) is fastconv.nn.AvgPool2d
    assert_close(model(x), want)
    found = fastconv.explain(model, x)
    assert found[1].problem is not None
    assert found[1].problem.encode().endswith("_avg_nchw")
    assert str(found[1].kernel).startswith("pool_fprop")
    fastconv.revert(model)
    assert type(model[1]) is torch.nn.AvgPool2d


@pytest.mark.parametrize(
    "given",
    [
        {"kernel_size": 2, "ceil_mode": "x"},
        {"kernel_size": 2, "divisor_override": 1.0},
        {"kernel_size": 2**70},
        {"kernel_size": "ab"},
        {"kernel_size": {2, 3}},
        {"kernel_size": range(2, 4)},
        {"kernel_size": torch.tensor([2, 2])},
        {"kernel_size": 2, "stride": True},
        {"kernel_size": 2, "padding": True},
        {"kernel_size": 3, "stride": 2**62, "padding": 1},
        {"kernel_size": 3, "stride": 2**63 - 1},
    ],
    ids=repr,
)
def test_arguments_are_taken_as_torch_takes_them(given: dict[str, Any]) -> None:
    x = torch.randn(1, 8, 9, 9)
    for enabled in (False, True):
        try:
            want = F.avg_pool2d(x, **given)
        except Exception as error:
            with fastconv.enabled(enabled), pytest.raises(type(error)) as got:
                (F if enabled else ours).avg_pool2d(x, **given)
            assert re.sub(r" \(position \d\)", "", str(got.value)) == str(error)
        else:
            with fastconv.enabled(enabled):
                assert_close((F if enabled else ours).avg_pool2d(x, **given), want)


def test_large_images_in_portions() -> None:
    """Contiguous images are transposed a few at a time."""
    x = torch.randn(6, 32, 160, 160)
    assert_close(ours.avg_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 3, 2, 1))
