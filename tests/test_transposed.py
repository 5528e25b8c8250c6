"""Transposed convolutions beside torch's: functions, gradients of every kind, layers."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from helpers_torch import assert_close
from torch import nn
from torch.autograd import forward_ad

import fastconv

#: (input, weight, keyword arguments)
FORMS = [
    ((2, 3, 5, 4), (3, 4, 3, 3), {}),
    ((1, 4, 4, 5), (4, 3, 3, 2), {"stride": 2, "padding": (1, 0), "groups": 2}),
    ((2, 6, 4, 4), (6, 1, 4, 4), {"stride": (2, 3), "padding": 1, "groups": 6}),
    ((2, 4, 4, 3), (4, 2, 3, 3), {"stride": 2, "output_padding": (1, 0), "padding": [1, 1]}),
    ((1, 4, 5, 5), (4, 4, 3, 3), {"dilation": 2, "padding": 2}),
    ((1, 2, 3, 3), (2, 2, 2, 2), {"dilation": (2, 3), "output_padding": 1}),
    ((3, 5, 4, 4), (5, 7, 1, 1), {"stride": (2,)}),
    ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    ((3, 6, 5), (3, 2, 3, 3), {"padding": 1}),
    ((2, 4, 7), (4, 3, 4), {"stride": 2, "padding": 1}),
    ((4, 7), (4, 3, 4), {"stride": 3, "output_padding": 2}),
    ((1, 4, 3, 4, 3), (4, 2, 2, 3, 2), {"stride": (1, 2, 2), "output_padding": (0, 1, 1)}),
]
KINDS = ["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


def operands(form, dtype=torch.float64, requires_grad=False):
    generator = torch.Generator().manual_seed(0)
    sizes, weights, kwargs = form
    channels = weights[1] * kwargs.get("groups", 1)
    tensors = [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for shape in (sizes, weights, (channels,))
    ]
    for t in tensors:
        t.requires_grad_(requires_grad)
    name = f"conv_transpose{len(weights) - 2}d"
    return tensors, kwargs, getattr(fastconv.functional, name), getattr(F, name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form_twice(form, channels_last: bool, dtype: torch.dtype) -> None:
    (x, w, b), kwargs, ours, theirs = operands(form, dtype)
    if channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    want = theirs(x, w, b, **kwargs)
    for _ in range(2):  # the second call takes the remembered way
        have = ours(x, w, b, **kwargs)
        assert_close(have, want)
        assert have.stride() == want.stride()
    assert_close(ours(x, w, **kwargs), theirs(x, w, **kwargs))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_gradients(form) -> None:
    (x, w, b), kwargs, ours, theirs = operands(form, requires_grad=True)
    want = theirs(x, w, b, **kwargs)
    dy = torch.randn_like(want).detach()
    expected = torch.autograd.grad(want, (x, w, b), dy)
    for _ in range(2):
        found = torch.autograd.grad(ours(x, w, b, **kwargs), (x, w, b), dy)
        for mine, other, parameter in zip(found, expected, (x, w, b), strict=True):
            assert_close(mine, other)
            assert mine.stride() == other.stride() or mine.stride() == parameter.stride()


def test_it_is_our_kernel() -> None:
    (x, w, b), kwargs, ours, _ = operands(FORMS[1], torch.float32, requires_grad=True)
    with fastconv.use("conv_dgrad_ref", "conv_fprop_ref", "conv_wgrad_ref"):
        for _ in range(2):
            ours(x, w, b, **kwargs).sum().backward()
            for direction in ("fprop", "dgrad", "wgrad"):
                assert fastconv.last_kernel(direction) == f"conv_{direction}_ref"


@pytest.mark.parametrize("form", [FORMS[0], FORMS[1], FORMS[3], FORMS[9]], ids=str)
def test_every_order(form) -> None:
    sizes, weights, kwargs = form
    small = ((1, *sizes[1:2], *(3,) * (len(sizes) - 2)), weights, kwargs)
    tensors, kwargs, ours, _ = operands(small, requires_grad=True)

    def call(*args: torch.Tensor) -> torch.Tensor:
        return ours(*args, **kwargs)

    call(*tensors)
    assert torch.autograd.gradcheck(
        call, tensors, check_forward_ad=True, check_batched_grad=True, fast_mode=True
    )
    assert torch.autograd.gradgradcheck(call, tensors, fast_mode=True)


def test_transforms() -> None:
    (x, w, b), kwargs, ours, theirs = operands(FORMS[1])
    xs, ws, bs = torch.stack([x, 2 * x]), torch.stack([w, -w]), torch.stack([b, 3 * b])

    def everything(conv):
        def call(x, w, b):
            return conv(x, w, b, **kwargs)

        vmap = torch.func.vmap
        yield vmap(call, (0, None, None))(xs, w, b)
        yield vmap(call, (None, 0, None))(x, ws, b)
        yield vmap(call, (0, 0, 0))(xs, ws, bs)
        yield vmap(torch.func.grad(lambda w, x: call(x, w, b).square().sum()), (None, 0))(w, xs)
        yield torch.func.jvp(call, (x, w, b), (x, w, b))[1]
        yield torch.func.hessian(lambda w: call(x[:, :, :2, :2], w, b).square().sum())(w)

    for mine, other in zip(everything(ours), everything(theirs), strict=True):
        assert_close(mine, other)


def test_forward_mode() -> None:
    (x, w, b), kwargs, ours, theirs = operands(FORMS[3])
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(t, 2 * t) for t in (x, w, b)]
        mine, other = (forward_ad.unpack_dual(f(*duals, **kwargs)).tangent for f in (ours, theirs))
    assert_close(mine, other)


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile(dynamic: bool) -> None:
    def step(x, w, b):
        return (
            fastconv.functional.conv_transpose2d(x, w, b, stride=2, padding=1, output_padding=1)
            .square()
            .mean()
        )

    torch._dynamo.reset()
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for batch, side in ((2, 6), (3, 9)):
        form = ((batch, 3, side, side), (3, 4, 3, 3), {})
        tensors, *_ = operands(form, torch.float32, requires_grad=True)
        theirs = torch.autograd.grad(step(*tensors), tensors)
        ours = torch.autograd.grad(compiled(*tensors), tensors)
        for mine, other in zip(ours, theirs, strict=True):
            assert_close(mine, other)


def test_autocast() -> None:
    (x, w, b), kwargs, ours, theirs = operands(FORMS[1], torch.float32, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, want = ours(x, w, b, **kwargs), theirs(x, w, b, **kwargs)
    assert out.dtype == torch.bfloat16
    assert_close(out, want)
    assert torch.autograd.grad(out.float().sum(), w)[0].dtype == torch.float32


ONES, FILTER = torch.ones(1, 3, 4, 4), torch.ones(3, 2, 3, 3)
INVALID = [
    (ONES, torch.ones(4, 2, 3, 3), {}),
    (ONES, FILTER, {"bias": torch.ones(3)}),
    (ONES, FILTER, {"stride": 0}),
    (ONES, FILTER, {"stride": None}),
    (ONES, FILTER, {"stride": 1.0}),
    (ONES, FILTER, {"padding": "same"}),
    (ONES, FILTER, {"padding": True}),
    (ONES, FILTER, {"padding": 9}),
    (ONES, FILTER, {"output_padding": 1}),
    (ONES, FILTER, {"output_padding": -1}),
    (ONES, FILTER, {"output_padding": None}),
    (ONES, FILTER, {"output_padding": (0.0, 0.0)}),
    (ONES, FILTER, {"dilation": 0}),
    (ONES, FILTER, {"groups": 2}),
    (ONES, FILTER, {"groups": True}),
    (ONES, FILTER.double(), {}),
    (torch.ones(4, 4), FILTER, {}),
]


@pytest.mark.parametrize(("x", "w", "kwargs"), INVALID)
def test_errors_are_torchs(x, w, kwargs) -> None:
    ours, theirs = fastconv.functional.conv_transpose2d, F.conv_transpose2d
    ours(ONES, FILTER)
    with pytest.raises(Exception) as want:
        theirs(x, w, **kwargs)
    with pytest.raises(type(want.value)) as have:
        ours(x, w, **kwargs)
    assert str(have.value) == str(want.value)


ARGUMENTS = [
    {},
    {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2, "bias": False},
    {"dilation": 2, "padding": 2, "dtype": torch.float64},
]


def twins(kind: str, **kwargs) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    layers = []
    for namespace in (nn, fastconv.nn):
        torch.manual_seed(0)
        layers.append(getattr(namespace, kind)(4, 6, 3, **kwargs))
    x = torch.randn(2, 4, *(6, 5, 4)[: int(kind[-2])], dtype=layers[0].weight.dtype)
    return layers[0], layers[1], x


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kwargs", ARGUMENTS, ids=str)
def test_same_layer(kind: str, kwargs) -> None:
    theirs, ours, x = twins(kind, **kwargs)
    assert repr(theirs) == repr(ours)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    for training in (True, False):
        theirs.train(training), ours.train(training)
        for layer in (theirs, ours):
            layer.zero_grad()
            layer(x).square().sum().backward()
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert_close(mine.grad, other.grad)
        with torch.no_grad():
            for _ in range(2):
                assert_close(ours(x), theirs(x))
                assert_close(ours(x[0]), theirs(x[0]))
            assert_close(copy.deepcopy(ours)(x), theirs(x))
            assert_close(pickle.loads(pickle.dumps(ours))(x), theirs(x))


@pytest.mark.parametrize("kind", KINDS)
def test_output_size(kind: str) -> None:
    theirs, ours, x = twins(kind, stride=3)
    least = list(theirs(x).shape)
    for more in (0, 1, 2):
        size = [n + more for n in least[2:]]
        for given in (size, torch.Size(size), [*least[:2], *size]):
            assert_close(ours(x, given), theirs(x, given))
            assert_close(ours(x, output_size=given), theirs(x, output_size=given))
    for wrong in ([n + 3 for n in least[2:]], [1] * 9):
        with pytest.raises(ValueError) as want:
            theirs(x, wrong)
        with pytest.raises(ValueError) as have:
            ours(x, wrong)
        assert str(have.value) == str(want.value)


def test_padding_modes_are_refused_as_torch_does() -> None:
    for namespace in (nn, fastconv.nn):
        with pytest.raises(ValueError, match="zeros"):
            namespace.ConvTranspose2d(3, 3, 3, padding_mode="reflect")
