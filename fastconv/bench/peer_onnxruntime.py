"""ONNX Runtime as a peer, on its CPU provider."""

from __future__ import annotations

import functools

import torch

from fastconv.bench import onnx
from fastconv.bench.peers import Prepared


def prepare_model(model: bytes, x: torch.Tensor, shape: torch.Size) -> Prepared:
    """A model of the input ``x`` and the output ``y``; both are bound once, outside the call."""
    import numpy as np
    import onnxruntime  # type: ignore[import-untyped, import-not-found, unused-ignore]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    x, y = x.contiguous(), torch.empty(shape)
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, np.float32, list(x.shape), x.data_ptr())
    binding.bind_output("y", "cpu", 0, np.float32, list(shape), y.data_ptr())
    call = functools.partial(session.run_with_iobinding, binding)
    return Prepared(call, lambda _: y, alive=(x,))


def prepare(layer: onnx.Node) -> Prepared:
    """The layer as a model of one node."""
    return prepare_model(onnx.model(layer), layer.x, layer.output)
