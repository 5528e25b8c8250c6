"""A child of a fork has one thread and the locks as they were: it computes, and it ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

PREAMBLE = """
import os, signal, sys, threading, time
import numpy as np

def in_child(call):
    pid = os.fork()
    if pid == 0:
        signal.alarm(120)  # what waits for ever is killed
        status = 1
        try:
            call()
            status = 0
        except SystemExit as end:  # of a child of this one
            status = end.code
        finally:
            sys.stdout.flush()
            sys.exit(status)  # by the ordinary way, so that destructors run too
    assert os.waitpid(pid, 0)[1] == 0
"""

POOL = """
from fastconv import _core
_core.set_threads(4)
p = "n2_c16_h8w8_k16_r3s3_st1_pd1_dl1_g1"
x = np.arange(2 * 16 * 64, dtype=np.float32).reshape(2, 8, 8, 16) % 7
w = np.arange(16 * 16 * 9, dtype=np.float32).reshape(16, 16, 3, 3) % 5
kernel = "conv_fprop_ref"

def run():
    return _core.conv.run(kernel, p, x=x, w=w)

expected = run()

def check():
    assert (run() == expected).all()
    assert _core.num_threads() == 4

in_child(check)
in_child(lambda: in_child(check))
check()
"""

BUSY_POOL = (
    POOL
    + """
stop = False
def busy():
    while not stop:
        run()
other = threading.Thread(target=busy)
other.start()
for _ in range(3):
    in_child(check)
stop = True
other.join()
"""
)

PACKING = """
import torch, fastconv
from fastconv import _native
torch.set_num_threads(1)
layer = fastconv.nn.Conv2d(16, 16, 3, padding=1).eval().requires_grad_(False)
x = torch.randn(1, 16, 8, 8)
layer(x)
stop = False
def busy():
    i = 0
    while not stop:
        i += 1
        layer(x)
        fastconv.functional.conv2d(x, layer.weight, padding=1 + i % 50, dilation=1 + i % 3)
        layer.weight.add_(0.5)
        cache = _native.lib.fastconv_new_cache()
        _native.lib.fastconv_drop_cache(cache)
other = threading.Thread(target=busy)
other.start()
def check():
    fresh = fastconv.nn.Conv2d(16, 16, 3, padding=1).eval().requires_grad_(False)
    fresh(x), fresh(x), layer(x)
    fastconv.functional.conv2d(x, layer.weight, padding=7, dilation=2)
    fastconv.enable()
    torch.nn.functional.conv2d(x, layer.weight)
    fastconv.disable()
for _ in range(3):
    in_child(check)
stop = True
other.join()
"""


@pytest.mark.parametrize("script", [POOL, BUSY_POOL, PACKING], ids=["pool", "busy", "packing"])
def test_a_child_computes_and_ends(script) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PREAMBLE + script], capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stdout + run.stderr
