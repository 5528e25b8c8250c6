"""Unpooling through every way in, beside torch's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers_torch import assert_close
from torch import Tensor

import fastconv
import fastconv.functional as ours
from fastconv import registry
from fastconv.policy import last_kernel

ops = torch.ops.fastconv
#: (axes, sizes of the large image, arguments of both)
FORMS: list[tuple[int, tuple[int, ...], dict[str, Any]]] = [
    (1, (2, 5, 19), {"kernel_size": 3, "stride": 2, "padding": 1}),
    (2, (2, 19, 9, 8), {"kernel_size": 2}),
    (2, (1, 4, 10, 9), {"kernel_size": (3, 2), "stride": (2, 3)}),
    (2, (0, 4, 8, 8), {"kernel_size": 2}),
    (2, (3, 8, 8), {"kernel_size": 2}),
    (3, (2, 5, 6, 7, 8), {"kernel_size": 2}),
]
IDS = [f"{axes}d-{sizes}" for axes, sizes, _ in FORMS]


def functional(axes: int, x: Tensor, index: Tensor, size: Any, **arguments: Any) -> Tensor:
    return getattr(ours, f"max_unpool{axes}d")(x, index, **arguments, output_size=size)


def layer(axes: int, x: Tensor, index: Tensor, size: Any, **arguments: Any) -> Tensor:
    return getattr(fastconv.nn, f"MaxUnpool{axes}d")(**arguments)(x, index, output_size=size)


def under_enable(axes: int, x: Tensor, index: Tensor, size: Any, **arguments: Any) -> Tensor:
    with fastconv.enabled():
        return getattr(F, f"max_unpool{axes}d")(x, index, **arguments, output_size=size)


WAYS = [functional, layer, under_enable]


def pooled(
    axes: int, sizes: tuple[int, ...], dtype: torch.dtype, last: bool, **arguments: Any
) -> Any:
    """A maximum and its places."""
    x = torch.randn(sizes, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(
        dtype
    )
    y, index = getattr(F, f"max_pool{axes}d")(x, **arguments, return_indices=True)
    if last and x.dim() in (4, 5):
        form = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
        y, index = y.contiguous(memory_format=form), index.contiguous(memory_format=form)
    return y.detach().requires_grad_(), index


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str
)
@pytest.mark.parametrize(("axes", "sizes", "arguments"), FORMS, ids=IDS)
def test_values_gradients_and_strides_are_torchs(way, dtype, last, axes, sizes, arguments) -> None:
    x, index = pooled(axes, sizes, dtype, last, **arguments)
    size = sizes[-axes:]
    theirs = getattr(F, f"max_unpool{axes}d")
    want = theirs(x, index, **arguments, output_size=size)
    have = way(axes, x, index, size, **arguments)
    assert torch.equal(have, want) and have.stride() == want.stride()
    dy = torch.randn_like(want)
    (want_dx,), (dx,) = (torch.autograd.grad(y, x, dy) for y in (want, have))
    assert torch.equal(dx, want_dx)
    if dx.numel():  # else torch's lies as the indices
        assert dx.stride() == want_dx.stride()


def test_our_kernels_run() -> None:
    for last, layout in ((False, "nchw"), (True, "nhwc")):
        x, index = pooled(2, (2, 19, 8, 8), torch.float32, last, kernel_size=2)
        for way in WAYS:
            y = way(2, x, index, None, kernel_size=2)
            assert str(last_kernel("fprop", "unpool")).startswith(f"unpool_fprop_scatter_{layout}")
        functional(2, x, index, None, kernel_size=2).sum().backward()
        assert str(last_kernel("dgrad", "unpool")).startswith("unpool_dgrad_direct")
        assert y.shape == (2, 19, 8, 8)
    with fastconv.use("unpool_fprop_ref"):
        ours.max_unpool2d(x, index, 2)
    assert last_kernel("fprop", "unpool") == "unpool_fprop_ref"


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
def test_of_equal_indices_the_last_counts(last: bool) -> None:
    """Whatever the threads: torch says of none."""
    x = torch.arange(2.0 * 64 * 30 * 30).reshape(2, 64, 30, 30)
    index = torch.randint(0, 40, x.shape)
    want = np.zeros((128, 60 * 60), np.float32)
    for i in range(900):
        want[np.arange(128), index.view(128, -1)[:, i]] = x.view(128, -1)[:, i]
    if last:
        x, index = (t.contiguous(memory_format=torch.channels_last) for t in (x, index))
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            have = ours.max_unpool2d(x, index, 2)
            np.testing.assert_array_equal(have.contiguous().view(128, -1).numpy(), want)
    finally:
        torch.set_num_threads(before)
    torch.use_deterministic_algorithms(True)
    try:
        assert_close(ours.max_unpool2d(x, index, 2), have)
        with fastconv.enabled():
            assert_close(F.max_unpool2d(x, index, 2), have)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("bad", [-1, 36, 2**40, -(2**63)])
def test_an_index_outside_is_named(bad: int) -> None:
    x, index = torch.randn(1, 8, 3, 3), torch.zeros(1, 8, 3, 3, dtype=torch.int64)
    index[0, 5, 1, 1] = bad
    told = f"Found an invalid max index: {bad} in indices .output volumes are of size 6x6"
    for last in (torch.contiguous_format, torch.channels_last):
        given = (x.contiguous(memory_format=last), index.contiguous(memory_format=last))
        with pytest.raises(RuntimeError, match=told):
            ours.max_unpool2d(*given, 2)
        with fastconv.enabled(), pytest.raises(RuntimeError, match=f"invalid max index: {bad} "):
            F.max_unpool2d(*given, 2)
        with pytest.raises(RuntimeError, match=told):
            ops.max_unpool_backward(torch.randn(1, 8, 6, 6), given[1])
    for row in registry.kernels(family="unpool"):
        if row.reason is None:
            text = "n1_c1_h1w2_unpool_p2q2_nchw"
            arrays = {
                "fprop": {"x": np.zeros((1, 1, 1, 2), "f")},
                "dgrad": {"dy": np.zeros((1, 1, 2, 2), "f")},
            }
            places = np.array([[[[3, bad]]]])
            with pytest.raises(
                ValueError, match=f"index has {bad}, which is no place of problem {text}"
            ):
                registry.table("unpool").run(row.name, text, **arrays[row.direction], index=places)


def first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]


@pytest.mark.parametrize(
    "change",
    [
        {"indices": torch.zeros(1, 2, 3, 3, dtype=torch.int32)},
        {"indices": torch.zeros(1, 2, 3, 2, dtype=torch.int64)},
        {"output_size": (9, 9)},
        {"output_size": (6, 6, 6)},
        {"output_size": (6.0, 6)},
        {"kernel_size": (2, 2, 2)},
        {"kernel_size": "ab"},
        {"kernel_size": 2.5},
        {"padding": 9},
        {"input": torch.zeros(1, 2, 3, 3, dtype=torch.int64)},
        {"input": torch.zeros(2, 3)},
        {"input": torch.zeros(1, 0, 3, 3), "indices": torch.zeros(1, 0, 3, 3, dtype=torch.int64)},
    ],
    ids=lambda change: "-".join(map(str, change)),
)
def test_errors_are_torchs(change: dict[str, Any]) -> None:
    given = {
        "input": torch.zeros(1, 2, 3, 3),
        "indices": torch.zeros(1, 2, 3, 3, dtype=torch.int64),
    }
    given |= {"kernel_size": 2} | change
    with pytest.raises(Exception) as want:
        F.max_unpool2d(**given)
    for enabled in (False, True):
        call = F.max_unpool2d if enabled else ours.max_unpool2d
        with fastconv.enabled(enabled), pytest.raises(type(want.value)) as have:
            call(**given)
        assert first_line(have.value) == first_line(want.value)


def call(t: Tensor, index: Tensor) -> Tensor:
    return ours.max_unpool2d(t, index, 2)


def test_derivatives() -> None:
    x, index = pooled(2, (2, 3, 6, 4), torch.float64, True, kernel_size=2)
    torch.autograd.gradcheck(call, (x, index), check_forward_ad=True, check_batched_grad=True)
    torch.autograd.gradgradcheck(call, (x, index))
    # Equal indices read one place: its derivative is what both are given.
    same = torch.zeros_like(index)
    dy = torch.randn(2, 3, 6, 4, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda t: ops.max_unpool_backward(t, same), dy)
    torch.autograd.gradcheck(
        lambda t: torch.autograd.grad(call(x, same), x, t, create_graph=True), dy
    )


def test_transforms() -> None:
    made = [pooled(2, (2, 3, 6, 4), torch.float32, False, kernel_size=2) for _ in range(3)]
    x = torch.stack([x.detach() * (i + 1) for i, (x, _) in enumerate(made)])
    index = torch.stack([index for _, index in made])
    want = torch.stack([F.max_unpool2d(*each, 2) for each in zip(x, index, strict=True)])
    assert torch.equal(torch.func.vmap(call)(x, index), want)
    assert torch.equal(torch.func.vmap(call, in_dims=(0, None))(x, index[0]), want)
    batched = torch.func.vmap(torch.func.grad(lambda t, i: call(t, i).square().sum()))(x, index)
    assert_close(batched, 2 * x)
    value, tangent = torch.func.jvp(lambda t: call(t, index[0]), (x[0],), (x[1],))
    assert torch.equal(value, want[0]) and torch.equal(tangent, want[1])


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
def test_the_ops_tell_torch_the_truth(last: bool) -> None:
    x, index = pooled(2, (2, 8, 6, 4), torch.float32, last, kernel_size=2)
    torch.library.opcheck(ops.max_unpool.default, (x, index, [6, 4]))
    dy = torch.randn(2, 8, 6, 4, requires_grad=True)
    torch.library.opcheck(ops.max_unpool_backward.default, (dy, index))
    with pytest.raises(RuntimeError, match="max_unpool_backward takes grad"):
        ops.max_unpool_backward(dy, index[:1])


def test_compiled_and_exported() -> None:
    """torch.jit neither traces nor scripts torch's own layer."""

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = torch.nn.MaxPool2d(2, return_indices=True)
            self.back = torch.nn.MaxUnpool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            y, index = self.pool(x)
            return self.back(y, index)

    model, x = Model().eval(), torch.randn(2, 8, 12, 12)
    want = model(x)
    assert sorted(fastconv.convert(model).swapped) == ["back", "pool"]
    assert type(model.back) is fastconv.nn.MaxUnpool2d
    found = fastconv.explain(model, x)[1]
    assert str(found.problem) == "n2_c8_h6w6_unpool_p12q12_nchw"
    assert str(found.kernel).startswith("unpool_fprop_scatter_nchw")
    for made in (
        model,
        torch.compile(model, backend="aot_eager", fullgraph=True),
        torch.export.export(model, (x,)).module(),
    ):
        assert torch.equal(made(x), want)
    assert "fastconv.max_unpool.default" in str(torch.export.export(model, (x,)).graph)
    fastconv.revert(model)
    assert type(model.back) is torch.nn.MaxUnpool2d
