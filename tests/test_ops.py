"""torch.ops.fastconv: schema, fakes, autograd, autocast, compilers, epilogue, named kernels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch._inductor.config
import torch.nn.functional as F
from helpers_torch import FORMS, assert_close, operands

import fastconv
from fastconv import reference
from fastconv.ops import portable
from fastconv.ops.conv import conv, conv_dgrad, conv_wgrad
from fastconv.ops.formulas import Geometry

ops = torch.ops.fastconv
PLAIN = [form for form in FORMS if len(form[0]) == 4 and "padding" not in form[2]] + [
    ((1, 4, 8, 8), (6, 2, 3, 2), {"stride": 2, "padding": (1, 2), "groups": 2}),
    ((2, 4, 9, 9), (4, 4, 3, 3), {"dilation": 2, "padding": (2, 2)}),
]
#: Small, because gradgradcheck perturbs every number of every operand.
SECOND_ORDER = [
    ((2, 2, 4, 3), (2, 2, 2, 2), {}),
    ((1, 4, 5, 4), (2, 2, 2, 1), {"stride": 2, "padding": (0, 1), "groups": 2}),
    ((1, 1, 5, 5), (2, 1, 2, 2), {"dilation": 2, "padding": (2, 1)}),
]


def pair(value) -> tuple[int, int]:
    value = (value,) if isinstance(value, int) else tuple(value)
    return value * 2 if len(value) == 1 else value


def geometry_of(kwargs) -> Geometry:
    return Geometry(
        pair(kwargs.get("stride", 1)),
        pair(kwargs.get("padding", 0)),
        pair(kwargs.get("dilation", 1)),
        kwargs.get("groups", 1),
    )


@pytest.mark.parametrize(
    ("form", "channels_last", "dtype"),
    [
        (PLAIN[0], "x", torch.float32),
        (PLAIN[0], "w", torch.float64),
        (PLAIN[-2], "", torch.float32),
        (PLAIN[-1], "x", torch.bfloat16),
        (PLAIN[2], "", torch.float32),
    ],
    ids=str,
)
def test_opcheck(form, channels_last, dtype) -> None:
    x, w, b, kwargs = operands(form, dtype, channels_last, requires_grad=True)
    geometry = geometry_of(kwargs)
    dy = torch.randn_like(F.conv2d(x, w, b, **kwargs).detach())
    torch.library.opcheck(ops.conv.default, (x, w, b, *geometry))
    torch.library.opcheck(
        ops.conv_dgrad.default, (dy.requires_grad_(), w, None, list(x.shape), *geometry)
    )
    torch.library.opcheck(
        ops.conv_wgrad.default, (dy, x, list(w.shape), list(w.stride()), *geometry)
    )
    torch.library.opcheck(ops.conv_bias_grad.default, (dy.detach(),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("channels_last", ["", "x", "w", "xw"])
@pytest.mark.parametrize("form", PLAIN, ids=str)
def test_fakes_have_the_real_strides(form, channels_last, dtype) -> None:
    x, w, b, kwargs = operands(form, dtype, channels_last)
    g = geometry_of(kwargs)
    dy = ops.conv(x, w, b, *g)
    with torch._subclasses.FakeTensorMode() as mode:
        fx, fw, fdy = (mode.from_tensor(t) for t in (x, w, dy))
        fakes = [
            ops.conv(fx, fw, None, *g),
            ops.conv_dgrad(fdy, fw, None, x.shape, *g),
            ops.conv_wgrad(fdy, fx, w.shape, w.stride(), *g),
        ]
    real = [
        dy,
        ops.conv_dgrad(dy, w, None, x.shape, *g),
        ops.conv_wgrad(dy, x, w.shape, w.stride(), *g),
    ]
    for fake, tensor in zip(fakes, real, strict=True):
        assert (fake.shape, fake.stride(), fake.dtype) == (tensor.shape, tensor.stride(), dtype)


@pytest.mark.parametrize("axes", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_fake_strides_of_one_and_three_axes(axes, dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, *(5,) * axes).to(dtype)
    w = torch.randn(6, 4, *(3,) * axes).to(dtype)
    if axes == 3:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    geometry = Geometry((1,) * axes, (1,) * axes, (1,) * axes, 1)
    with torch._subclasses.FakeTensorMode() as mode:
        fake = ops.conv(mode.from_tensor(x), mode.from_tensor(w), None, *geometry)
    assert fake.stride() == ops.conv(x, w, None, *geometry).stride()
    native = getattr(F, f"conv{axes}d")(x, w, padding=1)
    assert ops.conv(x, w, None, *geometry).stride() == native.stride()


@pytest.mark.parametrize("form", SECOND_ORDER, ids=str)
def test_gradients_of_every_kind_and_order(form) -> None:
    x, w, b, kwargs = operands(form, requires_grad=True)
    geometry = geometry_of(kwargs)
    dy = torch.randn_like(F.conv2d(x, w, b, **kwargs)).detach().requires_grad_()
    calls = [
        (lambda x, w, b: conv(x, w, b, geometry), (x, w, b)),
        (lambda dy, w: conv_dgrad(dy, w, x.shape, geometry), (dy, w)),
        (lambda dy, x: conv_wgrad(dy, x, w.shape, w.stride(), geometry), (dy, x)),
    ]
    for call, arguments in calls:
        assert torch.autograd.gradcheck(
            call, arguments, check_forward_ad=True, check_batched_grad=True
        )
        assert torch.autograd.gradgradcheck(call, arguments)


def test_registered_formula_has_a_second_order_too() -> None:
    x, w, b, kwargs = operands(SECOND_ORDER[1], requires_grad=True)
    geometry = geometry_of(kwargs)
    assert torch.autograd.gradcheck(lambda x, w, b: ops.conv(x, w, b, *geometry), (x, w, b))
    assert torch.autograd.gradgradcheck(lambda x, w, b: ops.conv(x, w, b, *geometry), (x, w, b))


@pytest.mark.parametrize("form", PLAIN, ids=str)
def test_three_directions_against_the_reference(form) -> None:
    x, w, b, kwargs = operands(form)
    g = geometry_of(kwargs)
    y = reference.conv(x, w, b, *g)
    dy = torch.randn_like(y)
    assert_close(ops.conv(x, w, b, *g), y)
    dx = reference.conv_dgrad(dy, w, x.shape, *g)
    assert_close(ops.conv_dgrad(dy, w, None, x.shape, *g), dx)
    dw = reference.conv_wgrad(dy, x, w.shape, w.stride(), *g)
    assert_close(ops.conv_wgrad(dy, x, w.shape, w.stride(), *g), dw)
    assert_close(ops.conv_bias_grad(dy), dy.sum((0, 2, 3)))


def test_the_portable_wgrad_stays_on_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    true = torch.empty_strided

    def watched(*args, **kwargs) -> torch.Tensor:
        made.append(true(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(torch, "empty_strided", watched)
    x, dy = torch.empty(2, 4, 5, 5, device="meta"), torch.empty(2, 6, 3, 3, device="meta")
    for strides in ((18, 9, 3, 1), (18, 1, 6, 2)):
        dw = portable.conv_wgrad(dy, x, (6, 2, 3, 3), strides, [1, 1], [0, 0], [1, 1], 2)
        assert (dw.device.type, dw.shape, dw.stride()) == ("meta", (6, 2, 3, 3), strides)
    assert {t.device.type for t in made} == {"meta"}


@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_epilogue(activation, dtype) -> None:
    x, w, b, kwargs = operands(PLAIN[0], dtype, "x")
    g = geometry_of(kwargs)
    sums = reference.conv(x, w, None, *g)
    scale, residual = torch.rand(4).to(dtype), torch.randn(sums.shape).to(dtype)
    out = ops.conv(x, w, b, *g, scale=scale, residual=residual, activation=activation)
    assert_close(out, reference.epilogue(sums, b, scale, residual, activation))
    dx = reference.conv_dgrad(sums, w, x.shape, *g)
    shift, residual = torch.rand(3).to(dtype), torch.randn(x.shape).to(dtype)
    out = ops.conv_dgrad(sums, w, shift, x.shape, *g, residual=residual, activation=activation)
    assert_close(out, reference.epilogue(dx, shift, None, residual, activation))


def test_epilogue_has_no_silent_gradient() -> None:
    x, w, b, kwargs = operands(PLAIN[0], requires_grad=True)
    out = ops.conv(x, w, b, *geometry_of(kwargs), activation="relu")
    with pytest.raises(RuntimeError, match="no gradient"):
        out.sum().backward()


def test_errors_name_the_argument() -> None:
    x, w, b, kwargs = operands(PLAIN[0], torch.float32)
    g = geometry_of(kwargs)
    with pytest.raises(RuntimeError, match="activation='gelu' is not one of none, relu"):
        ops.conv(x, w, b, *g, activation="gelu")
    with pytest.raises(RuntimeError, match="scale has to be one number per output channel"):
        ops.conv(x, w, b, *g, scale=torch.ones(3))
    with pytest.raises(RuntimeError, match="residual has to have the output's shape"):
        ops.conv(x, w, b, *g, residual=torch.ones(3))
    with pytest.raises(RuntimeError, match="no kernel is named 'nonsense'"):
        ops.conv(x, w, b, *g, kernel_name="nonsense")
    with pytest.raises(RuntimeError, match="computes dgrad of conv, not fprop of conv"):
        ops.conv(x, w, b, *g, kernel_name="conv_dgrad_ref")
    with pytest.raises(RuntimeError, match="grad does not have the sizes"):
        ops.conv_dgrad(x, w, None, x.shape, *g)


def test_kernel_named_by_hand() -> None:
    x, w, b, kwargs = operands(PLAIN[0], torch.float32)
    g = geometry_of(kwargs)
    out = ops.conv(x, w, b, *g, kernel_name="conv_fprop_ref")
    assert fastconv.last_kernel("fprop") == "conv_fprop_ref"
    assert_close(out, F.conv2d(x, w, b))
    with fastconv.use("conv_fprop_ref"):
        assert ops.conv_choice(x, w, *g) == "conv_fprop_ref"
    assert ops.conv_choice(x.to(torch.complex64), w, *g).startswith("torch: the dtype")


def test_autocast() -> None:
    x, w, b, kwargs = operands(PLAIN[0], torch.float32)
    g = geometry_of(kwargs)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            assert ops.conv(x, w, b, *g).dtype == dtype
            assert ops.conv_wgrad(torch.ones(2, 4, 5, 4), x, w.shape, w.stride(), *g).dtype == dtype
            assert ops.conv(x.double(), w.double(), b.double(), *g).dtype == torch.float64


def test_flops() -> None:
    x, w, b, kwargs = operands(PLAIN[0], torch.float32, requires_grad=True)
    with torch.utils.flop_counter.FlopCounterMode(display=False) as flops:
        out = fastconv.functional.conv2d(x, w, b, **kwargs)
        out.sum().backward()
    assert flops.get_total_flops() == 3 * 2 * out.numel() * w[0].numel()


@pytest.mark.parametrize("channels_last", ["", "x"])
def test_compile_fullgraph_dynamic_training(channels_last) -> None:
    def step(x, w, b):
        return fastconv.functional.conv2d(x, w, b, padding=1).relu().square().mean()

    torch._dynamo.reset()
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True, dynamic=True)
    for batch, side in ((2, 6), (3, 9)):
        form = ((batch, 3, side, side), (4, 3, 3, 3), {})
        x, w, b, _ = operands(form, torch.float32, channels_last, requires_grad=True)
        theirs = torch.autograd.grad(step(x, w, b), (x, w, b))
        ours = torch.autograd.grad(compiled(x, w, b), (x, w, b))
        for mine, other in zip(ours, theirs, strict=True):
            assert_close(mine, other)
            assert mine.stride() == other.stride()


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = fastconv.nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).relu()


def test_export_keeps_the_op_and_the_batch_dynamic() -> None:
    model = Small().eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (torch.randn(2, 3, 8, 8),), dynamic_shapes=({0: batch},))
    targets = {node.target for node in program.run_decompositions().graph.nodes}
    assert ops.conv.default in targets
    x = torch.randn(5, 3, 8, 8)
    assert_close(program.module()(x), model(x))


@pytest.fixture
def strict_inductor(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inductor that compiles anew, and takes some of its warnings for errors, as it does under CI."""
    monkeypatch.setenv("CI", "true")
    with torch._inductor.config.patch(force_disable_caches=True):
        yield


@pytest.mark.usefixtures("strict_inductor")
def test_aotinductor_package_runs_our_kernel(tmp_path: Path) -> None:
    model = Small().eval()
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        program = torch.export.export(model, (x,))
        package = torch._inductor.aoti_compile_and_package(
            program, package_path=str(tmp_path / "m.pt2")
        )
        loaded = torch._inductor.aoti_load_package(package)
        assert_close(loaded(x), model(x))


@pytest.mark.usefixtures("strict_inductor")
def test_inductor_trains() -> None:
    torch._dynamo.reset()
    model = torch.nn.Sequential(Small(), fastconv.nn.AvgPool2d(2))
    compiled = torch.compile(model, fullgraph=True)
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    compiled(x).sum().backward()
    ours = [p.grad for p in model.parameters()]
    model.zero_grad()
    model(x).sum().backward()
    for mine, p in zip(ours, model.parameters(), strict=True):
        assert_close(mine, p.grad)
