"""Pooling's ops at every device's key, and its rows called by name."""

from __future__ import annotations

import pytest
import torch
from helpers_torch import assert_close

from fastconv import _native, families
from fastconv.ops import pool as pool_ops
from fastconv.policy import last_kernel
from fastconv.tensors import drawn


def test_every_op_has_a_kernel_for_cuda_tensors() -> None:
    """Ours, or torch's where the library has none: the short ones too, by which functions call."""
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    prefixes = ("", "_") if _native.lib is not None else ("",)
    for name in pool_ops.KINDS:
        for op in (name, f"{name}_backward"):
            for prefix in prefixes:
                assert has_kernel(f"fastconv::{prefix}{op}", "CUDA"), prefix + op


@pytest.mark.skipif(_native.lib is None, reason="the op library is not built")
@pytest.mark.parametrize("direction", ["fprop", "dgrad"])
@pytest.mark.parametrize(
    "text",
    [
        "n2_c8_h9w7_r3s3_st2_pd1_max_u8",
        "n1_c5_h9w8_r2s3_st2_pd0x1_avg_excl_nchw",
        "n1_c4_h9w8_r1s1_st1_pd0_max_adapt_p4q3",
        "n1_c4_d4h5w6_t2r2s2_st2_pd0_max",
    ],
)
def test_a_row_is_called_by_name(text: str, direction: str) -> None:
    """As `fastconv tune` times a row: the family's `native_call`."""
    p = families.decode(text)
    family = families.of(p)
    t = drawn(p, family.drawn(), torch.device("cpu"))
    row = f"pool_{direction}_ref"
    have = family.native_call(p, direction, t, row)()
    assert last_kernel(direction, "pool") == row
    assert_close(have, family.torch_call(p, direction, t)())
