"""fastconv.functional beside torch.nn.functional: values, strides, errors, transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers_torch import FORMS, assert_close, operands

import fastconv
import fastconv.functional as ours
from fastconv.functional import conv


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("channels_last", ["", "x", "w"])
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_every_form_twice(form, channels_last, dtype) -> None:
    x, w, b, kwargs = operands(form, dtype, channels_last)
    expected = F.conv2d(x, w, b, **kwargs)
    for _ in range(2):  # the second call takes the remembered way
        out = ours.conv2d(x, w, b, **kwargs)
        assert_close(out, expected)
        assert out.stride() == expected.stride()


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_gradients(form) -> None:
    x, w, b, kwargs = operands(form, requires_grad=True)
    expected = F.conv2d(x, w, b, **kwargs)
    dy = torch.randn_like(expected).detach()
    theirs = torch.autograd.grad(expected, (x, w, b), dy)
    for _ in range(2):
        mine = torch.autograd.grad(ours.conv2d(x, w, b, **kwargs), (x, w, b), dy)
        for a, c, parameter in zip(mine, theirs, (x, w, b), strict=True):
            assert_close(a, c)
            assert a.stride() == c.stride() or (parameter is w and a.stride() == w.stride())


@pytest.mark.parametrize("needs", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)])
def test_only_the_gradients_asked_for(needs) -> None:
    x, w, b, _ = operands(FORMS[0])
    asked = [t.requires_grad_() for t, need in zip((x, w, b), needs, strict=True) if need]
    for _ in range(2):
        mine = torch.autograd.grad(ours.conv2d(x, w, b).sum(), asked)
        theirs = torch.autograd.grad(F.conv2d(x, w, b).sum(), asked)
        for a, c in zip(mine, theirs, strict=True):
            assert_close(a, c)


@pytest.mark.parametrize("axes", [1, 3])
def test_one_and_three_axes(axes) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, *(6,) * axes, dtype=torch.float64)
    w = torch.randn(6, 2, *(3,) * axes, dtype=torch.float64)
    b = torch.randn(6, dtype=torch.float64)
    call, theirs = getattr(ours, f"conv{axes}d"), getattr(F, f"conv{axes}d")
    for kwargs in ({"groups": 2}, {"groups": 2, "padding": "same"}, {"groups": 2, "stride": 2}):
        assert_close(call(x, w, b, **kwargs), theirs(x, w, b, **kwargs))
        assert_close(call(x[0], w, b, **kwargs), theirs(x[0], w, b, **kwargs))


def test_second_order() -> None:
    form = ((1, 4, 5, 4), (2, 2, 2, 1), {"stride": 2, "padding": (0, 1), "groups": 2})
    x, w, b, kwargs = operands(form, requires_grad=True)
    ours.conv2d(x, w, b, **kwargs)
    assert torch.autograd.gradgradcheck(lambda x, w, b: ours.conv2d(x, w, b, **kwargs), (x, w, b))


def test_transforms() -> None:
    x, w, b, _ = operands(FORMS[0])
    xs, ws, bs = torch.stack([x, 2 * x]), torch.stack([w, -w]), torch.stack([b, 3 * b])

    def everything(conv2d):
        def loss(w, x):
            return conv2d(x, w, b).square().sum()

        vmap = torch.func.vmap
        yield vmap(torch.func.grad(loss), (None, 0))(w, xs)
        yield vmap(conv2d, (0, None, None))(xs, w, b)
        yield vmap(conv2d, (None, 0, None))(x, ws, b)
        yield vmap(conv2d, (0, 0, 0))(xs, ws, bs)
        yield vmap(conv2d, (3, None, 1))(xs.movedim(0, 3), w, bs.movedim(0, 1))
        yield torch.func.jvp(lambda w, b: conv2d(x, w, b), (w, b), (w, b))[1]
        yield torch.func.jacrev(lambda w: conv2d(x[:1], w, b))(w)
        yield torch.func.jacfwd(torch.func.grad(loss))(w, x)
        yield torch.func.hessian(loss)(w, x)

    for mine, theirs in zip(everything(ours.conv2d), everything(F.conv2d), strict=True):
        assert_close(mine, theirs)


def test_forward_mode_without_functorch() -> None:
    x, w, b, _ = operands(FORMS[0])
    import torch.autograd.forward_ad as fwd

    ours.conv2d(x, w, b)
    with fwd.dual_level():
        mine = fwd.unpack_dual(ours.conv2d(fwd.make_dual(x, 2 * x), w, fwd.make_dual(b, b))).tangent
        theirs = fwd.unpack_dual(F.conv2d(fwd.make_dual(x, 2 * x), w, fwd.make_dual(b, b))).tangent
    assert_close(mine, theirs)


def test_batched_gradients() -> None:
    x, w, b, _ = operands(FORMS[0], requires_grad=True)
    out, expected = ours.conv2d(x, w, b), F.conv2d(x, w, b)
    dy = torch.randn(3, *out.shape, dtype=out.dtype)
    mine = torch.autograd.grad(out, (x, w, b), dy, is_grads_batched=True)
    theirs = torch.autograd.grad(expected, (x, w, b), dy, is_grads_batched=True)
    for a, c in zip(mine, theirs, strict=True):
        assert_close(a, c)


def test_checkpoint_and_inference_mode() -> None:
    x, w, b, _ = operands(FORMS[0], requires_grad=True)
    out = torch.utils.checkpoint.checkpoint(ours.conv2d, x, w, b, use_reentrant=False)
    assert_close(
        torch.autograd.grad(out.sum(), w)[0], torch.autograd.grad(F.conv2d(x, w, b).sum(), w)[0]
    )
    with torch.inference_mode():
        assert ours.conv2d(x, w, b).is_inference()


def test_autocast() -> None:
    x, w, b, _ = operands(FORMS[0], torch.float32, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = ours.conv2d(x, w, b)
        assert out.dtype == F.conv2d(x, w, b).dtype == torch.bfloat16
        assert ours.conv2d(x.double(), w.double()).dtype == torch.float64
    out.float().sum().backward()
    assert w.grad is not None and w.grad.dtype == torch.float32


ONES = torch.ones(1, 3, 4, 4)
FILTER = torch.ones(2, 3, 3, 3)
INVALID = [
    (ONES, torch.ones(2, 4, 3, 3), {}),
    (ONES, torch.ones(2, 3, 5, 5), {}),
    (ONES, FILTER, {"bias": torch.ones(3)}),
    (ONES, FILTER, {"stride": 0}),
    (ONES, FILTER, {"stride": (1, 2, 3)}),
    (ONES, FILTER, {"stride": 1.5}),
    (ONES, FILTER, {"stride": "2"}),
    (ONES, FILTER, {"stride": None}),
    (ONES, FILTER, {"padding": None}),
    (ONES, FILTER, {"dilation": None}),
    (ONES, FILTER, {"groups": None}),
    (ONES, FILTER, {"padding": -1}),
    (ONES, FILTER, {"padding": "full"}),
    (ONES, FILTER, {"padding": "same", "stride": 2}),
    (ONES, FILTER, {"dilation": 0}),
    (ONES, FILTER, {"groups": 0}),
    (ONES, FILTER, {"groups": 2}),
    (torch.ones(1, 4, 4, 4), torch.ones(3, 2, 3, 3), {"groups": 2}),
    (ONES, FILTER.double(), {}),
    (torch.ones(4, 4), FILTER, {}),
    (torch.ones(1, 1, 3, 4, 4), FILTER, {}),
    (ONES, torch.ones(3, 3), {}),
    (ONES, "weight", {}),
]


@pytest.mark.parametrize(("x", "w", "kwargs"), INVALID)
def test_errors_are_torchs(x, w, kwargs) -> None:
    ours.conv2d(ONES, FILTER)
    with pytest.raises(Exception) as theirs:
        F.conv2d(x, w, **kwargs)
    with pytest.raises(type(theirs.value)) as mine:
        ours.conv2d(x, w, **kwargs)
    assert str(mine.value) == str(theirs.value)


ARGUMENTS = ("stride", "padding", "dilation", "groups")
ODD = [True, 1.0, (1.0, 1.0), (True, True), (1, True), [1.0, 1], (1, 1.0)]


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_what_equals_one_is_taken_as_torch_takes_it(name: str, value: object) -> None:
    """1 == True == 1.0: after the integer was used, too."""
    ours.conv2d(ONES, FILTER, None, 1, 1, 1, 1)
    ours.conv2d(ONES, FILTER, None, (1, 1), (1, 1), (1, 1), 1)
    for padding in ({}, {"padding": 1}, {"padding": (1, 1)}):
        given = {
            k: v for k in ARGUMENTS for v in [{**padding, name: value}.get(k)] if v is not None
        }
        try:
            want = F.conv2d(ONES, FILTER, **given)
        except Exception as error:
            with pytest.raises(type(error)) as raised:
                ours.conv2d(ONES, FILTER, **given)
            assert str(raised.value) == str(error)
        else:
            assert_close(ours.conv2d(ONES, FILTER, **given), want)


@pytest.mark.parametrize("value", [2**64 + 1, 2**64 + 2, 2**70, (2**64 + 1, 1), 2**63])
@pytest.mark.parametrize("name", ["stride", "padding", "dilation", "groups"])
@pytest.mark.parametrize("function", ["conv2d", "conv_transpose2d"])
def test_numbers_of_more_than_64_bits(function: str, name: str, value: object) -> None:
    for x in (ONES, ONES.clone().requires_grad_()):
        with pytest.raises((ValueError, TypeError, RuntimeError, OverflowError)) as want:
            getattr(F, function)(x, FILTER, **{name: value})
        with pytest.raises(type(want.value)) as got:
            getattr(ours, function)(x, FILTER, **{name: value})
        assert str(got.value) == str(want.value)


def test_a_weight_on_another_device_is_torchs_to_take() -> None:
    weight = FILTER.to("meta")
    assert ours.conv2d(ONES, weight).device == F.conv2d(ONES, weight).device
    layers = [kind(3, 1, 2, device="meta").eval() for kind in (torch.nn.Conv2d, fastconv.nn.Conv2d)]
    want, got = (layer(ONES) for layer in layers)
    assert (got.device, got.shape) == (want.device, want.shape)


def test_arguments_made_anew_each_time() -> None:
    """The table of known arguments holds what it knows and does not grow for ever."""
    expected = F.conv2d(ONES, FILTER, None, 2, 1)
    two, one = [2, 2], [1, 1]
    for _ in range(2 * conv._MOST_KNOWN):
        out = ours.conv2d(ONES, FILTER, None, tuple(two), tuple(one))
    assert_close(out, expected)
    assert len(conv._known) <= conv._MOST_KNOWN
    step = [1, 1]
    assert ours.conv2d(ONES, FILTER, None, step).shape == (1, 2, 2, 2)
    step[0] = 2  # the same object, another geometry
    assert ours.conv2d(ONES, FILTER, None, step).shape == (1, 2, 1, 2)


@pytest.mark.parametrize("kind", [np.int64, np.int32])
def test_numpys_integers(kind: type) -> None:
    one = kind(1)
    for given in ({"stride": one}, {"padding": (one, one)}, {"dilation": one}):
        with fastconv.use("conv_fprop_ref"):
            out = ours.conv2d(ONES, FILTER, **given)
            assert fastconv.last_kernel("fprop") == "conv_fprop_ref"
        assert_close(out, F.conv2d(ONES, FILTER, **given))


def test_what_is_torchs_stays_torchs() -> None:
    x = torch.ones(1, 1, 3, 3)
    assert ours.conv2d(x.to(torch.complex64), x.to(torch.complex64)).dtype == torch.complex64
    assert ours.conv2d(x.long(), x.long()).item() == 9
    assert ours.conv2d(x.to("meta"), x.to("meta")).device.type == "meta"
    assert ours.conv2d(x.to_mkldnn(), x).is_mkldnn
    other = torch.ones(1, dtype=torch.float64)  # some of torch's kernels take it, some do not
    try:
        want = F.conv2d(x, x, other)
    except RuntimeError as error:
        with pytest.raises(RuntimeError) as raised:
            ours.conv2d(x, x, other)
        assert str(raised.value) == str(error)
    else:
        assert ours.conv2d(x, x, other).dtype == want.dtype


@pytest.mark.parametrize("name", fastconv.functional.__all__)
def test_every_function_tells_shapes_dtypes_and_errors(name: str) -> None:
    text = " ".join(str(getattr(fastconv.functional, name).__doc__).split())
    shapes = text.partition("[N, ")[2]
    assert "[N, " in shapes, "of the input and of the result"
    assert "rrors: as `" in text or "Raises" in text
    assert "types, errors" in text or "float32" in text
