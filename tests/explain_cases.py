"""Run by test_explain.py with FASTCONV_FALLBACK unset, as users run it: `explain` beside what ran."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

import fastconv

assert os.environ["FASTCONV_FALLBACK"] == ""
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
LAYERS = [
    (nn.Conv2d, (3, 8, 3), {}, (1, 3, 9, 9)),
    (nn.Conv2d, (1, 16, 3), {"padding": 1}, (1, 1, 28, 28)),
    (nn.Conv2d, (1, 64, 7), {"stride": 2, "padding": 3}, (1, 1, 64, 64)),
    (nn.Conv2d, (64, 64, 3), {"padding": 1}, (1, 64, 56, 56)),
    (nn.Conv2d, (64, 64, 3), {"padding": "same", "groups": 64}, (1, 64, 28, 28)),
    (nn.Conv2d, (32, 32, 3), {"padding": 1, "padding_mode": "reflect"}, (1, 32, 20, 20)),
    (nn.Conv2d, (64, 1, 3), {"padding": 1}, (1, 64, 28, 28)),
    (nn.Conv1d, (16, 16, 5), {}, (1, 16, 100)),
    (nn.Conv3d, (8, 8, 3), {}, (1, 8, 9, 9, 9)),
    (nn.ConvTranspose1d, (8, 8, 4), {"stride": 2}, (1, 8, 30)),
    (nn.ConvTranspose2d, (64, 32, 4), {"stride": 2, "padding": 1}, (1, 64, 28, 28)),
    (nn.ConvTranspose2d, (64, 32, 4), {"stride": 2, "padding": 1}, (64, 28, 28)),
]


@pytest.mark.parametrize(
    ("dtype", "last"),
    [*((torch.float32, last) for last in ("", "x", "w", "xw")), *((d, "xw") for d in DTYPES[1:])],
    ids=str,
)
@pytest.mark.parametrize(("kind", "sizes", "kwargs", "shape"), LAYERS, ids=str)
def test_what_is_told_is_what_runs(kind, sizes, kwargs, shape, dtype, last) -> None:
    layer = kind(*sizes, **kwargs).to(dtype).eval()
    x = torch.randn(shape).to(dtype)
    if len(shape) == 4 and "x" in last:
        x = x.contiguous(memory_format=torch.channels_last)
    if layer.weight.dim() == 4 and "w" in last:
        layer.to(memory_format=torch.channels_last)
    direction = "dgrad" if "Transpose" in kind.__name__ else "fprop"
    for convert in (False, True):
        if convert:
            fastconv.convert(layer)
        (told,) = fastconv.explain(layer, x)
        with torch.no_grad(), fastconv.enabled(not convert):
            layer(x)
            ran = fastconv.last_kernel(direction)
        assert told.kernel == ran
        assert f"runs {ran or 'torch'}" in str(fastconv.explain(layer, x))
        assert told.problem is not None
        # The record is the one that the choice was made for.
        chosen = fastconv.registry.chosen(told.problem, direction, must_win=True)
        assert chosen == ran, told.problem
