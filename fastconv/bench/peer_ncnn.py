"""ncnn as a peer: a net of one layer, batch 1, float32."""

from __future__ import annotations

from typing import Any

import torch

from fastconv.bench import onnx
from fastconv.bench.peers import Prepared


def _pair(value: Any) -> tuple[int, int]:
    return value[0], value[1]


def _convolution(layer: onnx.Node) -> tuple[str, dict[int, int], torch.Tensor]:
    """ncnn's layer for a Conv: its name, its parameters by number, its weights."""
    w, attributes = layer.constants["w"], layer.attributes
    (stride_h, stride_w), (dilation_h, dilation_w), (pad_h, pad_w) = (
        _pair(attributes[name]) for name in ("strides", "dilations", "pads")
    )
    K, _, R, S = w.shape
    values = {
        0: K, 1: S, 11: R, 2: dilation_w, 12: dilation_h, 3: stride_w, 13: stride_h,
        4: pad_w, 14: pad_h, 5: 0, 6: w.numel(),
    }  # fmt: skip
    groups = attributes["group"]
    assert isinstance(groups, int)
    if groups == 1:
        return "Convolution", values, w
    return "ConvolutionDepthWise", values | {7: groups}, w


#: By ONNX's name of the operator.
_LAYERS = {"Conv": _convolution}


def prepare(layer: onnx.Node) -> Prepared | str:
    """The layer as a net; why not, for what ncnn has no layer for."""
    if layer.op not in _LAYERS:
        return f"no layer for {layer.op}"
    if layer.x.shape[0] != 1:
        return "batch 1 alone"
    import ncnn  # type: ignore[import-untyped, import-not-found, unused-ignore]
    import numpy as np

    kind, values, w = _LAYERS[layer.op](layer)
    words = " ".join(f"{key}={value}" for key, value in values.items())
    net = ncnn.Net()
    net.opt.num_threads = torch.get_num_threads()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    weights = bytes(4) + w.contiguous().numpy().tobytes()  # the tag 0: float32 follows
    net.load_param_mem(f"7767517\n2 2\nInput in0 0 1 in0\n{kind} conv 1 1 in0 out0 {words}\n")
    net.load_model_mem(weights)
    x = ncnn.Mat(np.ascontiguousarray(layer.x[0].numpy())).clone()
    extractor_of = net.create_extractor

    def call() -> Any:
        extractor = extractor_of()
        extractor.input("in0", x)
        return extractor.extract("out0")[1]

    def read(y: Any) -> torch.Tensor:
        return torch.from_numpy(np.array(y))[None]

    return Prepared(call, read, alive=(net, weights))  # the net reads these bytes, not a copy
