"""ncnn as a peer: a net of one convolution layer, batch 1, float32."""

from __future__ import annotations

from typing import Any

import torch

from fastconv.bench.workloads import Task, Tensors


def parameters(t: Tensors) -> str:
    """The net in ncnn's text form."""
    p = t.problem
    kind = "Convolution" if p.groups == 1 else "ConvolutionDepthWise"
    values = {
        0: p.K, 1: p.S, 11: p.R, 2: p.dilation_w, 12: p.dilation_h, 3: p.stride_w, 13: p.stride_h,
        4: p.pad_w, 14: p.pad_h, 5: 0, 6: p.w_elements, 7: p.groups,
    }  # fmt: skip
    if p.groups == 1:
        del values[7]
    words = " ".join(f"{key}={value}" for key, value in values.items())
    return f"7767517\n2 2\nInput in0 0 1 in0\n{kind} conv 1 1 in0 out0 {words}\n"


def make(t: Tensors, task: Task) -> Any:
    """A call that returns the layer's output; None for what ncnn has no layer for."""
    p = t.problem
    if task != "fprop" or p.dtype != "f32" or p.N != 1 or min(t.padding) < 0:
        return None
    import ncnn  # type: ignore[import-untyped, import-not-found, unused-ignore]
    import numpy as np

    net = ncnn.Net()
    net.opt.num_threads = torch.get_num_threads()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    weights = bytes(4) + t.w.contiguous().numpy().tobytes()  # the tag 0: float32 follows
    net.load_param_mem(parameters(t))
    net.load_model_mem(weights)
    x = ncnn.Mat(np.ascontiguousarray(t.x[0].numpy())).clone()

    def call(_alive: bytes = weights) -> torch.Tensor:  # the net reads these bytes, not a copy
        extractor = net.create_extractor()
        extractor.input("in0", x)
        _, y = extractor.extract("out0")
        return torch.from_numpy(np.array(y, copy=False))[None]

    return call
