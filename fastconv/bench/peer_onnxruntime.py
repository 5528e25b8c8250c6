"""onnxruntime as a peer: a model of one Conv, written in ONNX's wire format by hand."""

from __future__ import annotations

from typing import Any

import torch

from fastconv.bench.workloads import Task, Tensors


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        out.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)


def _field(number: int, value: int | str | bytes) -> bytes:
    """A protobuf field: a varint, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _attribute(name: str, values: list[int]) -> bytes:
    return _field(1, name) + b"".join(_field(8, value) for value in values) + _field(20, 7)


def _value_info(name: str, shape: torch.Size) -> bytes:
    dims = b"".join(_field(1, _field(1, extent)) for extent in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, dims)))


def model(t: Tensors) -> bytes:
    """A serialized ModelProto: y = Conv(x, w), float32, NCHW."""
    attributes = {
        "dilations": t.dilation,
        "group": None,
        "pads": t.padding * 2,
        "strides": t.stride,
    }
    node = _field(1, "x") + _field(1, "w") + _field(2, "y") + _field(4, "Conv")
    for name, values in attributes.items():
        if values is None:
            integer = _field(1, name) + _field(3, t.problem.groups) + _field(20, 2)
            node += _field(5, integer)
        else:
            node += _field(5, _attribute(name, values))
    weight = b"".join(_field(1, extent) for extent in t.w.shape)
    weight += _field(2, 1) + _field(8, "w") + _field(9, t.w.contiguous().numpy().tobytes())
    graph = _field(1, node) + _field(2, "layer") + _field(5, weight)
    graph += _field(11, _value_info("x", t.x.shape)) + _field(12, _value_info("y", t.dy.shape))
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))


def make(t: Tensors, task: Task) -> Any:
    """A call that writes to a bound output; None for what the model cannot say."""
    p = t.problem
    if task != "fprop" or p.dtype != "f32" or min(*t.padding, p.N - 1) < 0:
        return None
    import onnxruntime  # type: ignore[import-untyped, import-not-found, unused-ignore]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model(t), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    x = onnxruntime.OrtValue.ortvalue_from_numpy(t.x.contiguous().numpy())
    y = onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(t.dy.shape), "float32")
    binding.bind_ortvalue_input("x", x)
    binding.bind_ortvalue_output("y", y)

    def call() -> torch.Tensor:
        session.run_with_iobinding(binding)
        return torch.from_numpy(y.numpy())

    return call
