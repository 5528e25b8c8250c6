"""Pooling through every way in, beside torch's own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers_torch import assert_close, of_torch
from torch import Tensor

import fastconv
import fastconv.functional as ours
from fastconv.policy import last_kernel

ops = torch.ops.fastconv
#: (function, sizes, arguments)
FORMS: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("avg_pool2d", (2, 8, 9, 7), {"kernel_size": 2}),
    ("avg_pool2d", (2, 19, 9, 7), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("avg_pool2d", (1, 5, 12, 9), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)}),
    ("avg_pool2d", (1, 4, 8, 8), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    ("avg_pool2d", (1, 4, 8, 9), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True,
                                  "count_include_pad": False}),
    ("avg_pool2d", (1, 16, 7, 7), {"kernel_size": 7}),
    ("avg_pool2d", (2, 6, 6, 5), {"kernel_size": 3, "stride": 1, "padding": 1, "count_include_pad": False}),
    ("avg_pool2d", (1, 6, 6, 6), {"kernel_size": 2, "divisor_override": 3}),
    ("avg_pool2d", (3, 6, 5), {"kernel_size": 2}),
    ("avg_pool2d", (0, 4, 6, 6), {"kernel_size": 2}),
    ("avg_pool1d", (2, 5, 19), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("avg_pool1d", (5, 19), {"kernel_size": 4}),
    ("avg_pool3d", (2, 5, 6, 7, 8), {"kernel_size": (2, 3, 2), "stride": 2, "padding": 1}),
    ("max_pool2d", (2, 19, 15, 14), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("max_pool2d", (1, 4, 8, 9), {"kernel_size": 2}),
    ("max_pool2d", (1, 4, 9, 9), {"kernel_size": 2, "dilation": 2, "padding": 1}),
    ("max_pool2d", (1, 4, 10, 9), {"kernel_size": (3, 2), "stride": (2, 3), "ceil_mode": True}),
    ("max_pool2d", (1, 3, 30, 40), {"kernel_size": 17, "stride": 1}),
    ("max_pool2d", (3, 8, 9), {"kernel_size": 3}),
    ("max_pool2d", (0, 3, 8, 9), {"kernel_size": 3}),
    ("max_pool1d", (2, 5, 19), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("max_pool3d", (2, 5, 6, 7, 8), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("adaptive_avg_pool2d", (2, 9, 10, 7), {"output_size": (4, 3)}),
    ("adaptive_avg_pool2d", (2, 40, 7, 7), {"output_size": 1}),
    ("adaptive_avg_pool2d", (2, 9, 8, 6), {"output_size": (None, 3)}),
    ("adaptive_avg_pool1d", (2, 9, 10), {"output_size": 4}),
    ("adaptive_avg_pool3d", (2, 9, 4, 5, 6), {"output_size": 2}),
    ("adaptive_max_pool2d", (2, 9, 10, 7), {"output_size": (4, 3)}),
    ("adaptive_max_pool2d", (2, 9, 3, 4), {"output_size": 5}),
    ("adaptive_max_pool1d", (2, 9, 10), {"output_size": 4}),
    ("adaptive_max_pool3d", (2, 9, 4, 5, 6), {"output_size": 2}),
    ("lp_pool2d", (2, 5, 9, 8), {"norm_type": 2, "kernel_size": 3, "stride": 2}),
    ("lp_pool1d", (2, 5, 9), {"norm_type": 2.0, "kernel_size": 2}),
    ("lp_pool3d", (1, 5, 4, 4, 4), {"norm_type": 2, "kernel_size": 2}),
]  # fmt: skip
IDS = [f"{name}-{sizes}-{arguments}" for name, sizes, arguments in FORMS]


def functional(name: str, x: Tensor, **arguments: Any) -> Any:
    return getattr(ours, name)(x, **arguments)


def layer(name: str, x: Tensor, **arguments: Any) -> Any:
    kind = "".join(part.capitalize() for part in name.split("_"))
    kind = kind.replace("Lp", "LP")[:-1] + name[-1]
    return getattr(fastconv.nn, kind)(**arguments)(x)


def under_enable(name: str, x: Tensor, **arguments: Any) -> Any:
    with fastconv.enabled():
        return getattr(F, name)(x, **arguments)


WAYS: list[Callable[..., Any]] = [functional, layer, under_enable]


def make(sizes: tuple[int, ...], dtype: torch.dtype, last: bool) -> Tensor:
    x = torch.randn(sizes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x.to(dtype)
    if last and x.dim() in (4, 5):
        form = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
        x = x.contiguous(memory_format=form)
    return x.requires_grad_()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("name", "sizes", "arguments"), FORMS, ids=IDS)
def test_values_gradients_and_strides_are_torchs(way, last, dtype, name, sizes, arguments) -> None:
    x = make(sizes, dtype, last)
    want = of_torch(name, x, **arguments)
    have = way(name, x, **arguments)
    assert_close(have, want)
    assert have.stride() == want.stride()
    dy = torch.randn_like(want)
    (want_dx,) = torch.autograd.grad(want, x, dy)
    with fastconv.enabled():
        (dx,) = torch.autograd.grad(have, x, dy)
    assert_close(dx, want_dx)
    # Of one output torch makes a mean, whose gradient lies in torch's order of axes whatever the image.
    if arguments.get("output_size") != 1 or way is under_enable:
        assert dx.stride() == want_dx.stride()
    with torch.no_grad():
        assert_close(way(name, x, **arguments), want)


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(
    ("name", "sizes", "arguments"),
    [form for form in FORMS if "max" in form[0]],
    ids=[each for each, form in zip(IDS, FORMS, strict=True) if "max" in form[0]],
)
def test_indices_are_torchs(way, last, name, sizes, arguments) -> None:
    """Of ties the first, of NaN the last."""
    values = (make(sizes, torch.float32, False).detach() * 2).round()
    values.view(-1)[:: max(1, values.numel() // 9)] = float("nan")
    values.view(-1)[1 :: max(1, values.numel() // 7)] = -float("inf")
    values[..., -2:] = -float("inf")  # windows of nothing else
    x = make(sizes, torch.float32, last).detach().copy_(values).requires_grad_()
    want, want_index = getattr(F, name)(x, **arguments, return_indices=True)
    have, index = way(name, x, **arguments, return_indices=True)
    torch.testing.assert_close(have, want, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(index, want_index) and index.dtype == torch.int64
    assert index.stride() == want_index.stride()
    dy = torch.randn_like(want)
    (want_dx,) = torch.autograd.grad(want, x, dy)
    (dx,) = torch.autograd.grad(have, x, dy)
    assert_close(dx, want_dx)


def test_our_kernels_run() -> None:
    x = make((2, 19, 9, 7), torch.float32, True)
    for name in ("avg_pool2d", "max_pool2d"):
        for way in WAYS:
            y = way(name, x, kernel_size=3, stride=2, padding=1)
            assert str(last_kernel("fprop", "pool")).startswith("pool_fprop_direct_nhwc"), way
            with fastconv.enabled():
                y.sum().backward()
            assert str(last_kernel("dgrad", "pool")).startswith("pool_dgrad_direct_nhwc"), way
    ours.max_pool2d(x.contiguous(), 3)
    assert str(last_kernel("fprop", "pool")).startswith("pool_fprop_direct_nchw")
    ours.adaptive_avg_pool2d(x, 1)
    assert str(last_kernel("fprop", "pool")).startswith("pool_fprop_global_nhwc")
    with fastconv.use("pool_fprop_ref"):
        ours.avg_pool2d(x, 2)
    assert last_kernel("fprop", "pool") == "pool_fprop_ref"


def test_a_slice_and_a_transposed_image() -> None:
    x = torch.randn(2, 9, 8, 12)[:, 1:7, :, ::2]
    for name in ("avg_pool2d", "max_pool2d"):
        theirs = getattr(F, name)
        for t in (x, x.transpose(2, 3), x.transpose(0, 1)):
            assert_close(
                functional(name, t, kernel_size=3, stride=2, padding=1), theirs(t, 3, 2, 1)
            )
            assert_close(under_enable(name, t, kernel_size=3, stride=2), theirs(t, 3, 2))


def test_indices_that_lie_otherwise_than_the_gradient() -> None:
    x = torch.randn(2, 6, 9, 8, requires_grad=True)
    y, index = torch.ops.aten.max_pool2d_with_indices(x, [3, 3], [2, 2])
    dy = torch.randn_like(y)
    backward = torch.ops.aten.max_pool2d_with_indices_backward
    for dy_last in (False, True):
        for index_last in (False, True):
            form = {False: torch.contiguous_format, True: torch.channels_last}
            given = (
                dy.contiguous(memory_format=form[dy_last]), x, [3, 3], [2, 2], [0, 0], [1, 1], False,
                index.contiguous(memory_format=form[index_last]),
            )  # fmt: skip
            want = backward(*given)
            with fastconv.enabled():
                assert_close(backward(*given), want)


#: A pool of each kind, on two axes.
KINDS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "mean": lambda of, t: of.avg_pool2d(t, 3, 2, 1, count_include_pad=False),
    "maximum": lambda of, t: of.max_pool2d(t, 3, 2, 1),
    "adaptive mean": lambda of, t: of.adaptive_avg_pool2d(t, (3, 2)),
    "adaptive maximum": lambda of, t: of.adaptive_max_pool2d(t, (3, 2)),
}


@pytest.mark.parametrize("pool", KINDS.values(), ids=KINDS.keys())
def test_derivatives_of_every_kind(pool: Callable[[Any, Tensor], Tensor]) -> None:
    x = torch.randperm(180).reshape(2, 3, 6, 5).double().requires_grad_()

    def call(t: Tensor) -> Tensor:
        return pool(ours, t)

    torch.autograd.gradcheck(call, x, check_forward_ad=True, check_batched_grad=True)
    torch.autograd.gradgradcheck(call, x)
    with fastconv.enabled():
        torch.autograd.gradcheck(lambda t: pool(F, t), x)
        torch.autograd.gradgradcheck(lambda t: pool(F, t), x)


@pytest.mark.parametrize("pool", KINDS.values(), ids=KINDS.keys())
def test_transforms(pool: Callable[[Any, Tensor], Tensor]) -> None:
    batch = torch.randn(4, 2, 3, 6, 5)
    want = torch.stack([pool(F, t) for t in batch])
    assert_close(torch.func.vmap(lambda t: pool(ours, t))(batch), want)
    assert_close(torch.func.vmap(lambda t: pool(ours, t), in_dims=1)(batch.transpose(0, 1)), want)

    def square(of: Any) -> Callable[[Tensor], Tensor]:
        return lambda t: pool(of, t).square().sum()

    ours_grad = torch.func.vmap(torch.func.grad(square(ours)))(batch)
    assert_close(ours_grad, torch.func.vmap(torch.func.grad(square(F)))(batch))
    x, v = batch[0], torch.randn_like(batch[0])
    for mine, other in zip(
        torch.func.jvp(square(ours), (x,), (v,)), torch.func.jvp(square(F), (x,), (v,)), strict=True
    ):
        assert_close(mine, other)
    with torch.inference_mode():
        assert_close(pool(ours, x), pool(F, x))


WINDOWS = ([3, 3], [2, 2], [1, 1])
SAMPLES = {
    "avg_pool": (*WINDOWS, False, True, None),
    "max_pool": (*WINDOWS, [1, 1], False),
    "adaptive_avg_pool": ([3, 3],),
    "adaptive_max_pool": ([3, 3],),
}


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", SAMPLES)
def test_the_ops_tell_torch_the_truth(name: str, last: bool) -> None:
    x, arguments = make((2, 8, 6, 5), torch.float32, last), SAMPLES[name]
    torch.library.opcheck(getattr(ops, name).default, (x, *arguments))
    made = getattr(ops, name)(x.detach(), *arguments)
    tensors = made if isinstance(made, tuple) else (made,)
    given = (*tensors, list(x.shape), last, *(arguments if "adaptive" not in name else ()))
    y = tensors[0].clone().requires_grad_()
    torch.library.opcheck(getattr(ops, f"{name}_backward").default, (y, *given[1:]))


@pytest.mark.parametrize("index", ["i64", "u8", "none"])
def test_indices_of_each_type(index: str) -> None:
    x = make((2, 8, 6, 5), torch.float32, True)
    torch.library.opcheck(
        ops.max_pool.default, (x.detach(), *SAMPLES["max_pool"], index),
        test_utils=("test_schema", "test_faketensor"),
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="index='i8' is not one of i64, u8"):
        ops.max_pool(x, *SAMPLES["max_pool"], "i8")


def test_compiled_and_exported() -> None:
    model = torch.nn.Sequential(
        fastconv.nn.MaxPool2d(3, 2, 1), fastconv.nn.AvgPool2d(3, 2, 1), torch.nn.ReLU(),
        fastconv.nn.AdaptiveAvgPool2d(1),
    ).eval()  # fmt: skip
    x = torch.randn(2, 8, 19, 19)
    want = F.adaptive_avg_pool2d(F.avg_pool2d(F.max_pool2d(x, 3, 2, 1), 3, 2, 1).relu(), 1)
    assert_close(torch.compile(model, backend="aot_eager", fullgraph=True)(x), want)
    graph = torch.export.export(model, (x,))
    for name in ("max_pool", "avg_pool", "adaptive_avg_pool"):
        assert f"fastconv.{name}.default" in str(graph.graph)
    assert_close(graph.module()(x), want)
    traced = torch.jit.trace(model, x)
    assert "max_pool2d" in str(traced.inlined_graph)
    assert_close(torch.jit.script(model)(x), want)
    assert [n.op for n in torch.fx.symbolic_trace(model).graph.nodes].count("call_module") == 4


def test_compiling_warns_of_nothing() -> None:
    torch.compiler.reset()
    x = torch.randn(1, 4, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled = torch.compile(fastconv.nn.MaxPool2d(2), backend="aot_eager", fullgraph=True)
        assert_close(compiled(x), F.max_pool2d(x, 2))


def test_compiled_with_gradients() -> None:
    x = make((2, 8, 19, 19), torch.float32, False)

    def call(t: Tensor) -> Tensor:
        return ours.avg_pool2d(ours.max_pool2d(t, 3, 2, 1), 2).square()

    want = F.avg_pool2d(F.max_pool2d(x, 3, 2, 1), 2).square()
    have = torch.compile(call, backend="aot_eager", fullgraph=True)(x)
    assert_close(have, want)
    (mine,), (theirs,) = (torch.autograd.grad(y.sum(), x) for y in (have, want))
    assert_close(mine, theirs)


def test_convert_explain_and_revert() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(8, 16, 3), torch.nn.AvgPool2d(2), torch.nn.MaxPool2d(2, 1),
        torch.nn.AdaptiveAvgPool2d((2, 1)), torch.nn.AdaptiveMaxPool2d(1), torch.nn.LPPool2d(2, 1),
    ).eval()  # fmt: skip
    kinds = [type(module) for module in model]
    x = torch.randn(1, 8, 10, 10)
    want = model(x)
    assert fastconv.convert(model).swapped == ["0", "1", "2", "3", "4", "5"]
    assert type(model[2]) is fastconv.nn.MaxPool2d
    assert_close(model(x), want)
    found = fastconv.explain(model, x)
    texts = [str(each.problem) for each in found[1:5]]
    assert texts == [
        "n1_c16_h8w8_r2s2_st2_pd0_avg_nchw",
        "n1_c16_h4w4_r2s2_st1_pd0_max_nchw",
        "n1_c16_h3w3_r1s1_st1_pd0_avg_adapt_p2q1_nchw",
        "n1_c16_h2w1_r1s1_st1_pd0_max_adapt_p1q1_nchw",
    ]
    assert str(found[1].kernel).startswith("pool_fprop")
    fastconv.revert(model)
    assert [type(module) for module in model] == kinds


def last_kernel_nhwc() -> str | None:
    """The row that takes channels last here."""
    ours.avg_pool2d(torch.randn(1, 8, 4, 4).contiguous(memory_format=torch.channels_last), 2)
    return last_kernel("fprop", "pool")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8], ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
def test_maxima_of_whole_numbers(dtype: torch.dtype, last: bool) -> None:
    """As torch has them: through fixed windows, without a gradient. The reference computes them where
    torch's kernel must not.
    """
    limits = torch.iinfo(dtype)
    x = torch.randint(limits.min, limits.max + 1, (2, 5, 9, 8)).to(dtype)
    x[0, 0] = limits.min
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    for window in (
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 2, "ceil_mode": True},
    ):
        want, want_index = F.max_pool2d(x, **window, return_indices=True)
        for way in WAYS:
            have, index = way("max_pool2d", x, **window, return_indices=True)
            assert last_kernel("fprop", "pool") == "pool_fprop_ref"
            for mine, other in (
                (have, want),
                (index, want_index),
                (way("max_pool2d", x, **window), want),
            ):
                assert torch.equal(mine, other) and mine.dtype == other.dtype
                assert mine.stride() == other.stride()
    for call in (lambda: F.adaptive_max_pool2d(x, 2), lambda: F.avg_pool2d(x, 2)):
        with fastconv.enabled(), pytest.raises(RuntimeError, match="not implemented for"):
            call()
