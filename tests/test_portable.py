"""Triton's rows through the op library, and everything without it: ops, autograd, `enable()`.

The cases without the library are in `portable_cases.py` and run in a process of their own, where it is
switched off (FASTCONV_SKIP_NATIVE=1) and Triton's interpreter takes the CPU's tensors.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

import torch
import torch.nn.functional as F
from helpers_torch import FORMS, POOLS, assert_close, assert_same_pool, gradients, operands

import fastconv
from fastconv import _triton
from fastconv.ops import define

CASES = str(Path(__file__).with_name("portable_cases.py"))


def test_in_a_process() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", CASES],
        env={**os.environ, "FASTCONV_SKIP_NATIVE": "1", "TRITON_INTERPRET": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-4000:]


@pytest.mark.parametrize("name", define.SCHEMAS)
def test_schemas_are_the_librarys(name: str) -> None:
    theirs = getattr(torch.ops.fastconv, name).default._schema
    ours = torch._C.parse_schema(f"fastconv::{name}{define.SCHEMAS[name]}")
    assert str(theirs) == str(ours)


def test_named_rows_through_the_library() -> None:
    """`use` reaches Triton's rows through the C++ ops and under aten, where the interpreter runs."""
    if "cpu" not in _triton.device_types():
        pytest.skip("Triton's kernels are not interpreted here")
    x, w, b, _ = operands(FORMS[3], torch.float64, requires_grad=True)
    names = [f"conv_{direction}_direct_nhwc_triton" for direction in ("fprop", "dgrad", "wgrad")]
    want = F.conv2d(x, w, b, padding=2, dilation=2)
    theirs = gradients(want, (x, w, b))

    def under_aten() -> torch.Tensor:
        return F.conv2d(x, w, b, padding=2, dilation=2)

    def own() -> torch.Tensor:
        return fastconv.functional.conv2d(x, w, b, padding=2, dilation=2)

    for call in (under_aten, own):
        with fastconv.enabled(), fastconv.use(*names):
            have = call()
            ours = gradients(have, (x, w, b))
        for mine, other in zip((have, *ours), (want, *theirs), strict=True):
            assert mine.stride() == other.stride()
            assert_close(mine, other)
        for name in names:
            assert fastconv.last_kernel(name.split("_")[1]) == name
    refused = pytest.raises(RuntimeError, match="the dtype is not one of f32, bf16, f16")
    with fastconv.use("conv_fprop_igemm_nhwc_triton"), refused:
        own()


@pytest.mark.parametrize("form", POOLS, ids=str)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_named_pools_through_the_library(layout: str, form) -> None:
    """As above, of pools."""
    if "cpu" not in _triton.device_types():
        pytest.skip("Triton's kernels are not interpreted here")
    names = [f"pool_{direction}_direct_{layout}_triton" for direction in ("fprop", "dgrad")]
    for module in (F, fastconv.functional):
        with fastconv.enabled(), fastconv.use(*names):
            ran = assert_same_pool(module, form, layout, torch.float32)
        assert ran == names


def test_a_named_pool_says_why_not() -> None:
    x = torch.randn(1, 4, 6, 6)
    for name, reason in (
        ("pool_fprop_global_nchw_triton", "the image is not one window"),
        ("pool_dgrad_direct_nchw_triton", "computes dgrad of pool, not fprop of pool"),
    ):
        with pytest.raises(RuntimeError, match=reason):
            torch.ops.fastconv.avg_pool(x, [2, 2], [2, 2], [0, 0], False, True, None, name)
