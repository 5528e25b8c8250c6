"""Shared by every test: seeds, and what "the rows of this machine" means."""

from __future__ import annotations

import os

# Before fastconv is loaded: no valid problem may reach torch's kernel.
os.environ.setdefault("FASTCONV_FALLBACK", "error")

# Before torch is loaded: its threads sleep while they wait. As many processes as there are cores share them here, and a
# thread that spins, as OpenMP's do, keeps the one that it waits for from its core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest
import torch

if (
    not torch.cuda.is_available()
):  # Triton's kernels are run by its interpreter, which is chosen at import
    os.environ.setdefault("TRITON_INTERPRET", "1")


# Files of the longest tests, each one process's, so that none is left alone at the end. At the start xdist gives each
# of two processes two files: the shorter ones here stand third and fourth.
_LONGEST = (
    "test_triton_rows.py",
    "test_isa.py",
    "test_portable.py",
    "test_cuda_on_cpu.py",
    "test_kernels.py",
    "test_cuda_rows.py",
    "test_triton_objects.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files named above first; the others as they were collected."""
    places = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(_LONGEST)))


@pytest.fixture(autouse=True)
def seed() -> None:
    np.random.seed(0)
    torch.manual_seed(0)
