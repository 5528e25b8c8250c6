"""torch.compile sees through: the graphs of a convolution and of pools hold Triton's launches.

In a process that does not interpret. There is no GPU to run the graph, so it is looked at instead.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

CODE = '''
import torch
import triton
from triton.backends.compiler import GPUTarget
from torch._dynamo.backends.common import aot_autograd
from fastconv import _native, _triton, functional
from torch._subclasses.fake_tensor import FakeTensorMode

class Driver:
    """Says which GPU the kernels are for; nothing is launched."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

triton.runtime.driver.set_active(Driver())
_triton.why_not = lambda: None
_triton.device_types = lambda: ("cpu",)
_native.serves = lambda tensor: False

def show(graph, inputs):
    print("graph", graph.code.count("triton_kernel_wrapper_functional("), "fastconv" in graph.code)
    return graph

def layer(x, w, b):
    return functional.conv2d(x, w, b, stride=2, padding=1)

def maxima(x):
    x = functional.max_pool2d(x, 3, 2, 1)
    return functional.adaptive_max_pool2d(x, (3, 2), return_indices=True)[0]

def means(x):
    x = functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    return functional.adaptive_avg_pool2d(x, 1)

backend = aot_autograd(fw_compiler=show, bw_compiler=show)
with FakeTensorMode(allow_non_fake_inputs=True):
    x = torch.empty(2, 16, 9, 8, dtype=torch.bfloat16, requires_grad=True)
    w = torch.empty(32, 16, 3, 3, dtype=torch.bfloat16, requires_grad=True)
    b = torch.empty(32, dtype=torch.bfloat16, requires_grad=True)
    torch.compile(layer, backend=backend, fullgraph=True)(x, w, b)
    x = torch.empty(2, 16, 9, 8, requires_grad=True)
    for pools in (maxima, means):
        torch.compile(pools, backend=backend, fullgraph=True)(x).sum().backward()
'''


def test_the_graph_holds_the_launches() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False
    )
    graphs = [line.split() for line in result.stdout.splitlines() if line.startswith("graph")]
    assert len(graphs) == 5, result.stderr[-3000:]
    for _, launches, ops in graphs:
        assert int(launches) >= 1
        assert ops == "False", "an op of fastconv is left in the graph"
