"""What `test_pool_samples.py` runs in a process of its own: pooling on the samples by which PyTorch tests its own,
values, indices, gradients, strides and errors, by `fastconv.functional` and under `enable()`.

fractional_max_pool is no function of fastconv's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers_torch import assert_close, of_torch
from test_pool_arguments import first_line
from torch import Tensor
from torch.testing._internal.common_methods_invocations import op_db

import fastconv
import fastconv.functional as ours

NAMES = [
    f"{kind}_pool{axes}d"
    for kind in ("avg", "max", "adaptive_avg", "adaptive_max")
    for axes in (1, 2, 3)
]
NAMES += [f"max_unpool{axes}d" for axes in (1, 2, 3)]
OPS = {name: next(op for op in op_db if op.name == f"nn.functional.{name}") for name in NAMES}
DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def results(made: Any) -> tuple[Tensor, ...]:
    return made if isinstance(made, tuple) else (made,)


def calls(name: str) -> Iterator[Any]:
    """By each way, with what is to be compared."""
    yield getattr(ours, name), fastconv.enabled(False)
    yield getattr(F, name), fastconv.enabled()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_samples(name: str, dtype: torch.dtype) -> None:
    op, ran = OPS[name], 0
    for sample in op.sample_inputs("cpu", dtype, requires_grad=True):
        x, given = sample.input, (*sample.args,)
        want = results(of_torch(name, x, *given, **sample.kwargs))
        dy = torch.randn_like(want[0])
        (want_dx,) = torch.autograd.grad(want[0], x, dy)
        for call, scope in calls(name):
            with scope:
                have = results(call(x, *given, **sample.kwargs))
                (dx,) = torch.autograd.grad(have[0], x, dy)
            for mine, other in zip((*have, dx), (*want, want_dx), strict=True):
                assert mine.shape == other.shape and mine.stride() == other.stride(), sample
                if not torch.equal(mine, other):  # most are, which is told faster
                    assert_close(mine, other)
        ran += 1
    assert ran


@pytest.mark.parametrize("name", NAMES)
def test_error_inputs(name: str) -> None:
    for error in OPS[name].error_inputs("cpu"):
        sample = error.sample_input
        with pytest.raises(Exception) as want:
            getattr(F, name)(sample.input, *sample.args, **sample.kwargs)
        for call, scope in calls(name):
            with scope, pytest.raises(type(want.value)) as have:
                call(sample.input, *sample.args, **sample.kwargs)
            assert first_line(have.value) == first_line(want.value)
