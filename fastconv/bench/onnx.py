"""One layer as an ONNX node, and as a model in ONNX's wire format, written by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

_TYPES = {torch.float32: 1}  # TensorProto.DataType


@dataclasses.dataclass(frozen=True)
class Node:
    """``y = op(x, *constants)`` on float32 tensors in ONNX's plain layout.

    Attributes:
        attributes: ONNX's own: integers and lists of them.
        output: the shape of ``y``.
    """

    op: str
    attributes: Mapping[str, int | list[int]]
    x: torch.Tensor
    constants: Mapping[str, torch.Tensor]
    output: torch.Size


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # a negative number takes all ten bytes
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


def _attribute(name: str, value: int | list[int]) -> bytes:
    """An AttributeProto."""
    if isinstance(value, int):
        return _field(1, name) + _field(3, value) + _field(20, 2)
    return _field(1, name) + b"".join(_field(8, each) for each in value) + _field(20, 7)


def _tensor(name: str, t: torch.Tensor) -> bytes:
    """A TensorProto."""
    dims = b"".join(_field(1, extent) for extent in t.shape)
    raw = t.contiguous().numpy().tobytes()
    return dims + _field(2, _TYPES[t.dtype]) + _field(8, name) + _field(9, raw)


def _value_info(name: str, shape: torch.Size, dtype: torch.dtype) -> bytes:
    """A ValueInfoProto of a tensor."""
    dims = b"".join(_field(1, _field(1, extent)) for extent in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, _TYPES[dtype]) + _field(2, dims)))


def model(layer: Node) -> bytes:
    """A serialized ModelProto with the input ``x`` and the output ``y``."""
    names = ["x", *layer.constants]
    node = b"".join(_field(1, name) for name in names) + _field(2, "y") + _field(4, layer.op)
    for name, value in layer.attributes.items():
        node += _field(5, _attribute(name, value))
    graph = _field(1, node) + _field(2, "layer")
    for name, t in layer.constants.items():
        graph += _field(5, _tensor(name, t))
    graph += _field(11, _value_info("x", layer.x.shape, layer.x.dtype))
    graph += _field(12, _value_info("y", layer.output, layer.x.dtype))
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))
