"""Arguments of pools that torch refuses, or takes in its own way: the same by every way in."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers_torch import assert_close
from test_pool import WAYS

import fastconv
import fastconv.functional as ours


def first_line(error: BaseException) -> str:  # which does not tell how arguments were given
    return re.sub(r" \(position \d+\)", "", str(error).splitlines()[0])


BAD: list[tuple[str, dict[str, Any]]] = [
    ("avg_pool2d", {"kernel_size": 0}), ("avg_pool2d", {"kernel_size": 9}),
    ("avg_pool2d", {"kernel_size": 2, "padding": 2}), ("avg_pool2d", {"kernel_size": 2, "stride": 0}),
    ("avg_pool2d", {"kernel_size": 2, "divisor_override": 0}),
    ("avg_pool2d", {"kernel_size": (2, 2, 2)}), ("avg_pool2d", {"kernel_size": 2.0}),
    ("max_pool2d", {"kernel_size": 0}), ("max_pool2d", {"kernel_size": 9}),
    ("max_pool2d", {"kernel_size": 2, "padding": 2}), ("max_pool2d", {"kernel_size": 2, "dilation": 0}),
    ("max_pool2d", {"kernel_size": (2, 2, 2)}), ("max_pool2d", {"kernel_size": 2, "stride": -1}),
    ("adaptive_avg_pool2d", {"output_size": (1, 2, 3)}), ("adaptive_max_pool2d", {"output_size": -1}),
    ("adaptive_max_pool2d", {"output_size": (2.0, 2)}),
    ("avg_pool3d", {"kernel_size": (1, 8, 3), "padding": (0, 1, 0)}), ("avg_pool3d", {"kernel_size": 7, "padding": 3}),
    ("avg_pool2d", {"kernel_size": 2, "ceil_mode": 0}), ("avg_pool2d", {"kernel_size": 2, "ceil_mode": None}),
    ("avg_pool2d", {"kernel_size": 2, "count_include_pad": None}), ("max_pool2d", {"kernel_size": 2, "ceil_mode": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments"), BAD, ids=str)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_errors_are_torchs(way, name, arguments) -> None:
    x = torch.randn(1, 2, *[6] * int(name[-2]))
    with pytest.raises(Exception) as want:
        getattr(F, name)(x, **arguments)
    with pytest.raises(type(want.value)) as have:
        way(name, x, **arguments)
    assert first_line(have.value) == first_line(want.value)


@pytest.mark.parametrize(
    "given",
    [
        {"kernel_size": 2, "ceil_mode": "x"},
        {"kernel_size": 2, "divisor_override": 1.0},
        {"kernel_size": 2**70},
        {"kernel_size": "ab"},
        {"kernel_size": {2, 3}},
        {"kernel_size": range(2, 4)},
        {"kernel_size": torch.tensor([2, 2])},
        {"kernel_size": 2, "stride": True},
        {"kernel_size": 2, "padding": True},
        {"kernel_size": 3, "stride": 2**62, "padding": 1},
        {"kernel_size": 3, "stride": 2**63 - 1},
    ],
    ids=repr,
)
@pytest.mark.parametrize("name", ["avg_pool2d", "max_pool2d"])
def test_arguments_are_taken_as_torch_takes_them(name: str, given: dict[str, Any]) -> None:
    if name == "max_pool2d" and "divisor_override" in given:
        given = {"kernel_size": 2, "dilation": 1.0}
    x = torch.randn(1, 8, 9, 9)
    for enabled in (False, True):
        mine = getattr(F if enabled else ours, name)
        try:
            want = getattr(F, name)(x, **given)
        except Exception as error:
            with fastconv.enabled(enabled), pytest.raises(type(error)) as got:
                mine(x, **given)
            assert first_line(got.value) == first_line(error)
        else:
            with fastconv.enabled(enabled):
                assert_close(mine(x, **given), want)
