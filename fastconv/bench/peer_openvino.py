"""OpenVINO as a peer, on its CPU plugin."""

from __future__ import annotations

import io

import torch

from fastconv.bench import onnx
from fastconv.bench.peers import Prepared


def prepare_model(model: bytes, x: torch.Tensor, shape: torch.Size) -> Prepared:
    """A model of the input ``x`` and the output ``y``; both are bound once, outside the call."""
    import openvino  # type: ignore[import-untyped, import-not-found, unused-ignore]

    core = openvino.Core()
    options = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = core.compile_model(core.read_model(io.BytesIO(model)), "CPU", options)
    request = compiled.create_infer_request()
    x, y = x.contiguous(), torch.empty(shape)
    request.set_input_tensor(openvino.Tensor(x.numpy(), shared_memory=True))
    request.set_output_tensor(openvino.Tensor(y.numpy(), shared_memory=True))
    start, wait = request.start_async, request.wait

    def call() -> None:  # `infer()` makes a dictionary of results each time
        start()
        wait()

    return Prepared(call, lambda _: y, alive=(compiled, x))


def prepare(layer: onnx.Node) -> Prepared:
    """The layer as a model of one node."""
    return prepare_model(onnx.model(layer), layer.x, layer.output)
