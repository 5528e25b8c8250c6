"""fastconv.nn.Conv2d beside torch.nn.Conv2d."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.parametrizations as parametrizations
from helpers_torch import assert_close

import fastconv

ARGUMENTS = [
    ((3, 4, 3), {}),
    ((4, 6, (3, 2)), {"stride": 2, "padding": (1, 0), "groups": 2, "bias": False}),
    ((4, 4, 3), {"padding": "same", "groups": 4}),
    ((4, 4, 3), {"padding": 2, "dilation": 2, "dtype": torch.float64}),
    ((3, 4, 3), {"padding": 1, "padding_mode": "reflect"}),
    ((3, 4, 3), {"padding": (1, 2), "padding_mode": "circular"}),
    ((3, 4, 3), {"padding": "same", "padding_mode": "replicate"}),
]


def twins(positional, keywords) -> tuple[torch.nn.Conv2d, fastconv.nn.Conv2d]:
    torch.manual_seed(0)
    theirs = torch.nn.Conv2d(*positional, **keywords)
    torch.manual_seed(0)
    return theirs, fastconv.nn.Conv2d(*positional, **keywords)


@pytest.mark.parametrize(("positional", "keywords"), ARGUMENTS, ids=str)
@pytest.mark.parametrize("batched", [True, False])
def test_same_layer(positional, keywords, batched) -> None:
    theirs, ours = twins(positional, keywords)
    assert repr(theirs) == repr(ours)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=0)
    x = torch.randn(*((2,) if batched else ()), positional[0], 7, 8, dtype=theirs.weight.dtype)
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


def test_copies_and_pickles() -> None:
    theirs, ours = twins((3, 4, 3), {})
    ours.eval()
    x = torch.randn(1, 3, 5, 5)
    with torch.no_grad():
        expected = theirs(x)
        assert_close(ours(x), expected)
        for twin in (copy.deepcopy(ours), copy.copy(ours), pickle.loads(pickle.dumps(ours))):
            assert_close(twin(x), expected)
            assert type(twin) is fastconv.nn.Conv2d


def test_state_dict_goes_both_ways() -> None:
    theirs, ours = twins((3, 4, 3), {})
    with torch.no_grad():
        theirs.weight.mul_(3)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 5, 5)
    assert_close(ours(x), theirs(x))
    theirs.load_state_dict(ours.state_dict())


def test_parametrised_weight() -> None:
    theirs, ours = twins((3, 4, 3), {})
    for layer in (theirs, ours):
        torch.manual_seed(1)
        parametrizations.weight_norm(layer)
        layer.eval()
    x = torch.randn(1, 3, 5, 5)
    with torch.no_grad():
        assert_close(ours(x), theirs(x))
        theirs.parametrizations.weight.original0.mul_(2)
        ours.parametrizations.weight.original0.mul_(2)
        assert_close(ours(x), theirs(x))


def test_autocast_and_inference_mode_in_eval() -> None:
    _, ours = twins((3, 4, 3), {})
    ours.eval()
    x = torch.randn(1, 3, 5, 5)
    with torch.inference_mode():
        ours(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert ours(x).dtype == torch.bfloat16
    inference = fastconv.nn.Conv2d(3, 4, 3).eval()
    with torch.inference_mode():
        inference.weight = torch.nn.Parameter(torch.ones(4, 3, 3, 3), requires_grad=False)
        assert inference(x).shape == (1, 4, 3, 3)


def test_wrong_input_raises_what_torch_raises() -> None:
    theirs, ours = twins((3, 4, 3), {})
    for layer in (theirs.eval(), ours.eval()):
        layer(torch.randn(1, 3, 5, 5))
    with torch.no_grad():
        for x in (torch.ones(1, 2, 5, 5), torch.ones(5), torch.ones(1, 3, 5, 5).double()):
            with pytest.raises(RuntimeError) as expected:
                theirs(x)
            with pytest.raises(RuntimeError) as got:
                ours(x)
            assert str(got.value) == str(expected.value)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("padding", ["same", "valid", 1])
def test_a_weight_of_other_taps_than_it_was_made_for(padding: str | int, grad: bool) -> None:
    theirs, ours = twins((3, 4, 3), {"padding": padding})
    theirs.eval(), ours.eval()
    x = torch.randn(1, 3, 9, 9)
    with torch.set_grad_enabled(grad):
        for taps in ((3, 3), (5, 5), (3, 5), (1, 1), (4, 2)):
            theirs.weight = ours.weight = torch.nn.Parameter(torch.randn(4, 3, *taps))
            for _ in range(2):
                assert_close(ours(x), theirs(x))
            (told,) = fastconv.explain(ours, x)
            assert told.problem is not None
            assert told.problem.weight_extents[3:] == taps


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", ["stride", "padding", "dilation"])
def test_attributes_set_afterwards(name: str, grad: bool) -> None:
    """Lists, numbers and what torch refuses, after the equal integers were used."""
    theirs, ours = twins((3, 4, 3), {"padding": 1})
    theirs.eval(), ours.eval()
    x = torch.randn(1, 3, 9, 9)
    with torch.set_grad_enabled(grad):
        assert_close(ours(x), theirs(x))
        for value in ([2, 2], [1, 1], [2, 1], [2], 2, (1, 1), 1):
            setattr(theirs, name, value), setattr(ours, name, value)
            for _ in range(2):
                assert_close(ours(x), theirs(x))
        for value in (None, 1.0, True, (1.0, 1.0), (True, 1), "one", (1, 1, 1), -1):
            setattr(theirs, name, value), setattr(ours, name, value)
            try:
                want = theirs(x)
            except Exception as error:
                with pytest.raises(type(error)):
                    ours(x)
            else:
                assert_close(ours(x), want)


def test_groups_that_change() -> None:
    layer = fastconv.nn.Conv2d(32, 64, 3, padding=1).eval()
    with torch.no_grad():
        for groups in (1, 4, 1, 2, 4):
            layer.groups = groups
            x = torch.randn(2, 32 * groups, 14, 14)
            for _ in range(2):
                want = F.conv2d(x, layer.weight, layer.bias, padding=1, groups=groups)
                torch.testing.assert_close(layer(x), want, rtol=1e-3, atol=1e-3)


PACKING = [
    ("Conv1d", {"padding": 1}),
    ("Conv2d", {"padding": 1}),
    ("Conv2d", {"padding": "same"}),
    ("Conv2d", {"padding": "valid"}),
    ("Conv2d", {"padding": 1, "padding_mode": "reflect"}),
    ("Conv3d", {"padding": 1}),
]


@pytest.mark.parametrize(("kind", "kwargs"), PACKING, ids=str)
def test_what_packs(kind: str, kwargs) -> None:
    """Every plain layer keeps its packed weight, whatever its padding is called."""
    layer = getattr(fastconv.nn, kind)(16, 16, 3, **kwargs).eval()
    x = torch.randn(1, 16, *(8,) * int(kind[-2]))
    theirs = getattr(torch.nn, kind)(16, 16, 3, **kwargs).eval()
    theirs.load_state_dict(layer.state_dict())
    with (
        torch.no_grad(),
        fastconv.use("conv_fprop_im2col_nhwc_avx2" if kind != "Conv3d" else "conv_fprop_ref"),
    ):
        for _ in range(3):
            torch.testing.assert_close(layer(x), theirs(x), rtol=1e-4, atol=1e-4)
        assert layer._pack_cache is not None
        layer.weight.data.mul_(-1)
        theirs.load_state_dict(layer.state_dict())
        torch.testing.assert_close(layer(x), theirs(x), rtol=1e-4, atol=1e-4)


def test_state_without_the_library() -> None:
    """A layer pickled after it packed is read where no kernel packs."""
    layer = fastconv.nn.Conv2d(3, 4, 3).eval()
    x = torch.randn(1, 3, 5, 5)
    with torch.no_grad():
        layer(x), layer(x)
        assert layer._pack_cache is not None
        text = pickle.dumps(layer)
        assert b"PackCache" not in text
        assert_close(pickle.loads(text)(x), layer(x))


@pytest.mark.parametrize("kind", ["Conv2d", "ConvTranspose2d"])
def test_compiled_after_it_packed(kind: str) -> None:
    layer = getattr(fastconv.nn, kind)(16, 16, 3, padding=1).eval()
    x = torch.randn(1, 16, 8, 8)
    torch._dynamo.reset()
    with torch.no_grad():
        want = layer(x)
        compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
        for _ in range(2):
            assert_close(compiled(x), want)
            layer.train().eval()  # another cache, the same graph
            layer(x)


@pytest.mark.parametrize("name", fastconv.nn.__all__)
def test_every_layer_tells_its_shapes(name: str) -> None:
    text = str(getattr(fastconv.nn, name).__doc__)
    assert "tells shapes and dtypes" in text or "[N, C, P, Q]" in text
