"""``explain`` tells what was called: problems from modules, kernels from the table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fastconv
from fastconv import registry
from fastconv.explain import Explanation, Layer, explain


def test_problems() -> None:
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3),
        nn.Conv2d(8, 16, (3, 5), padding="same", dilation=(2, 1)),
        nn.Conv2d(16, 16, 3, padding=1, groups=16, padding_mode="reflect"),
        nn.Conv2d(16, 4, 1),
    )
    x = torch.randn(2, 3, 20, 22)
    assert [str(layer.problem) for layer in explain(model, x)] == [
        "n2_c3_h20w22_k8_r7s7_st2_pd3_dl1_g1_nchw",
        "n2_c8_h10w11_k16_r3s5_st1_pd2_dl2x1_g1_nchw",
        "n2_c16_h12w13_k16_r3s3_st1_pd0_dl1_g16_nchw",
        "n2_c16_h10w11_k4_r1s1_st1_pd0_dl1_g1_nchw",
    ]
    last = model.to(memory_format=torch.channels_last)
    problems = [
        layer.problem for layer in explain(last, x.contiguous(memory_format=torch.channels_last))
    ]
    assert all(p is not None and p.y_layout == "nhwc" for p in problems)


def test_one_and_three_dimensions() -> None:
    (layer,) = explain(torch.nn.Conv1d(3, 8, 5, padding=2), torch.randn(3, 9))
    assert str(layer.problem) == "n1_c3_h1w9_k8_r1s5_st1_pd0x2_dl1_g1_nchw"
    (layer,) = explain(torch.nn.Conv3d(3, 8, 3), torch.randn(1, 3, 5, 6, 7))
    assert str(layer.problem) == "n1_c3_d5h6w7_k8_t3r3s3_st1_pd0_dl1_g1_nchw"


def test_other_dtypes_stay_with_torch() -> None:
    conv = torch.nn.Conv2d(2, 2, 3, dtype=torch.complex64)
    (layer,) = explain(conv, torch.randn(1, 2, 5, 5, dtype=torch.complex64))
    assert layer.kernel is None
    assert "complex" in layer.why


def test_reasons() -> None:
    explanation = explain(torch.nn.Conv2d(64, 64, 3, padding=1), torch.randn(1, 64, 28, 28))
    (layer,) = explanation
    assert layer.problem is not None
    assert layer.kernel == registry.chosen(layer.problem, "fprop", must_win=True)
    assert all(reason for _, reason in layer.others)
    assert (layer.kernel or "torch") in str(explanation)


def test_transposed() -> None:
    nn = torch.nn
    layer = nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1, groups=2)
    (told,) = explain(layer, torch.randn(1, 6, 5, 6))
    assert str(told.problem) == "n1_c4_h10w12_k6_r3s3_st2_pd1_dl1_g2_nchw"
    assert told.kernel is not None and "_dgrad_" in told.kernel
    (told,) = explain(nn.ConvTranspose1d(2, 3, 4), torch.randn(2, 7))
    assert str(told.problem) == "n1_c3_h1w10_k2_r1s4_st1_pd0_dl1_g1_nchw"


@pytest.mark.parametrize("convert", [False, True])
def test_it_is_the_kernel_named_by_hand(convert: bool) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3), torch.nn.ConvTranspose2d(8, 8, 3))
    if convert:
        fastconv.convert(model)
    with fastconv.use("conv_fprop_ref", "conv_dgrad_ref"):
        told = explain(model, torch.randn(1, 8, 6, 6))
    assert [layer.kernel for layer in told] == ["conv_fprop_ref", "conv_dgrad_ref"]


def test_keywords_and_precision() -> None:
    conv = torch.nn.Conv2d(64, 64, 3, padding=1)
    (told,) = explain(conv, input=torch.randn(1, 64, 56, 56), precision="exact")
    assert told.kernel is not None and "winograd" not in told.kernel
    with pytest.raises(ValueError, match="precision"):
        explain(conv, torch.randn(1, 64, 8, 8), precision="best")


class Restless(torch.nn.Module):
    """Whatever a forward can change."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.spectral = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Conv2d(4, 4, 1))
        self.lazy = torch.nn.LazyConv2d(2, 1)
        self.register_buffer("count", torch.zeros(2))
        self.plain = torch.ones(3)
        self.calls, self.seen = 0, []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.seen.append(x.shape)
        self.count += 1
        self.plain.mul_(2)
        self.conv.weight.data.mul_(1.5)
        self.norm.eval() if self.norm.training else self.norm.train()
        x = torch.nn.functional.dropout(self.norm(self.conv(x)), 0.5)
        self.extra = x
        return self.lazy(self.spectral(x))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("convert", [True, False])
def test_nothing_of_the_model_changes(convert: bool, training: bool) -> None:
    model = Restless().train(training)
    if convert:
        fastconv.convert(model)
    calls: list[int] = []
    hooks = [model.conv.register_forward_hook(lambda *_: calls.append(1)),
             model.norm.register_forward_pre_hook(lambda *_: calls.append(2))]  # fmt: skip
    model.conv.weight.grad = torch.ones_like(model.conv.weight)

    def everything() -> list[object]:
        told: list[object] = [torch.random.get_rng_state().tolist(), model.calls, len(model.seen)]
        for name, module in model.named_modules():
            told += [name, type(module), module.training, sorted(module.__dict__)]
            told += [list(module._forward_hooks.items()), list(module._forward_pre_hooks.items())]
        for name, t in (*model.named_parameters(), *model.named_buffers(), ("p", model.plain)):
            told += [name, id(t), type(t), t.requires_grad, t._version]
            if not torch.nn.parameter.is_lazy(t):
                told += [
                    t.data_ptr(),
                    t.stride(),
                    t.tolist(),
                    None if t.grad is None else id(t.grad),
                ]
        return told

    before = everything()
    explanation = explain(model, torch.randn(2, 3, 8, 8, generator=torch.Generator()))
    assert [layer.name for layer in explanation] == ["conv", "spectral", "lazy"]
    assert everything() == before
    assert calls == [1, 2]
    for hook in hooks:
        hook.remove()


def test_a_packed_weight_stays_packed() -> None:
    layer = fastconv.nn.Conv2d(16, 16, 3, padding=1).eval()
    x = torch.randn(1, 16, 8, 8)
    with torch.no_grad():
        layer(x)
    cache = layer._pack_cache
    assert cache is not None
    before = cache.packings, cache.bytes
    explain(layer, x)
    assert layer._pack_cache is cache and (cache.packings, cache.bytes) == before


def test_as_users_run_it() -> None:
    """Where no row is known to win torch's kernel runs, and `explain` says so."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         str(Path(__file__).with_name("explain_cases.py"))],
        env={**os.environ, "FASTCONV_FALLBACK": "", "TRITON_INTERPRET": "0"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-4000:]


def test_pools_that_torch_has_not() -> None:
    model = torch.nn.Sequential(
        torch.nn.ReLU(), fastconv.nn.StochasticPool2d(2), fastconv.nn.SubSample2d(4)
    )
    x = torch.randn(1, 4, 8, 12)
    sample, sums = explain(model, x)
    assert str(sample.problem) == "n1_c4_h8w12_r2s2_st2_pd0_sto_u8_nchw"
    assert str(sums.problem) == "n1_c4_h4w6_r2s2_st2_pd0_avg_div1_nchw"
    for layer in (sample, sums):
        assert layer.kernel is not None and layer.kernel.startswith("pool_fprop_")
    assert str(explain(model.eval(), x)[0].problem) == "n1_c4_h8w12_r2s2_st2_pd0_avg_div1_nchw"
    assert [layer.problem for layer in explain(model, x[0])] == [None, None]
    assert fastconv.convert(model).swapped == []


def test_a_model_without_layers_that_are_known() -> None:
    assert str(explain(torch.nn.ReLU(), torch.randn(2))).startswith("no layer is one that fastconv")


def test_the_machines_reasons_are_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def kernels(*_: object, **__: object) -> list[registry.Kernel]:
        return [
            registry.Kernel("a", "t", "fprop", "exact", "x", "no such machine", "no such machine")
        ]

    monkeypatch.setattr(registry, "kernels", kernels)
    layers = [Layer(name, None, "c", (("a", "no such machine"), ("b", "slow"))) for name in "xy"]
    text = str(Explanation(layers))
    assert text.count("no such machine") == 1 and text.count("not b: slow") == 2
    assert text.splitlines()[-1].startswith("not on this machine, 1 of the kernels")
