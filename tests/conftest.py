"""Shared by every test: seeds, and what "the rows of this machine" means."""

from __future__ import annotations

import os

# Before fastconv is loaded: no valid problem may reach torch's kernel.
os.environ.setdefault("FASTCONV_FALLBACK", "error")

import numpy as np
import pytest
import torch

if (
    not torch.cuda.is_available()
):  # Triton's kernels are run by its interpreter, which is chosen at import
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def seed() -> None:
    np.random.seed(0)
    torch.manual_seed(0)
