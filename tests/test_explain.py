"""``explain`` tells what was called: problems from modules, kernels from the table."""

from __future__ import annotations

import torch

from fastconv import registry
from fastconv.explain import explain


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
