"""Convolution's part in the bench: its tensors, torch's calls, fastconv's, and its ONNX node."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from torch.nn.functional import conv2d

import fastconv
from fastconv.bench.onnx import Node
from fastconv.bench.part import Goal, Operands, Peer, Prepared, Regime, Task
from fastconv.bench.parts import enabled_inference, of_family
from fastconv.bench.peers import OURS, WITH_GRADIENTS
from fastconv.families.conv import FAMILY
from fastconv.problem import ConvProblem

GOALS = (
    Goal("dense 3x3", r"dense3x3\.", 2.5, 1.6),
    Goal("3x3 512@7", r"deep3x3\.", 1.3),
    Goal("dilated 3x3", r"dilated\.", 2.0),
    Goal("1x1", r"pointwise\.", 1.03, 0.97),
    Goal("stem", r"stem\.", 1.05),
    Goal("depthwise", r"depthwise\.", 1.6, 1.1),
    Goal("grouped", r"grouped\.", 2.0),
    Goal("training: depthwise", r"training\.dw", 4.0),
    Goal("training: 3x3", r"training\.3x3", 2.0),
    Goal("training: grouped", r"training\.g32", 2.5),
    Goal("training: 1x1", r"training\.1x1", 1.4),
)


def _geometry(p: ConvProblem) -> tuple[list[int], list[int], list[int]]:
    """Stride, padding and dilation as torch takes them."""
    return [p.stride_h, p.stride_w], [p.pad_h, p.pad_w], [p.dilation_h, p.dilation_w]


def torch_call(o: Operands, task: Task) -> Prepared:
    """The layer by PyTorch's own functions; under ``fastconv.enabled()`` these reach fastconv's
    kernels.
    """
    x, w, dy = o["x"], o["w"], o["dy"]
    geometry, groups = _geometry(o.problem), o.problem.groups
    if task == "fprop":
        return Prepared(functools.partial(conv2d, x, w, None, *geometry, groups))
    if task == "step":
        x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
        gradients = torch.autograd.grad

        def step() -> Any:
            y = conv2d(x, w, None, *geometry, groups)
            return (y, *gradients(y, (x, w), dy))

        return Prepared(step)
    mask = [task == "dgrad", task == "wgrad", False]
    backward = torch.ops.aten.convolution_backward.default
    options = (None, *geometry, False, [0, 0], groups, mask)
    index = mask.index(True)
    return Prepared(functools.partial(backward, dy, x, w, *options), lambda all: all[index])


def _channels_last(o: Operands, task: Task) -> Prepared:
    return torch_call(o.to(torch.channels_last), task)


def _contiguous(o: Operands, task: Task) -> Prepared:
    return torch_call(o.to(torch.contiguous_format), task)


def _prepacked(o: Operands, task: Task) -> Prepared | str:
    """oneDNN with its weights reordered beforehand: the op that torch.compile with freezing calls."""
    if task != "fprop" or o.problem.dtype not in ("f32", "bf16"):
        return "inference in float32 and bfloat16 alone"
    if not torch.backends.mkldnn.is_available():
        return "this torch has no oneDNN"
    o = o.to(torch.channels_last)
    stride, padding, dilation = _geometry(o.problem)
    options = (padding, stride, dilation, o.problem.groups)
    w = torch.ops.mkldnn._reorder_convolution_weight(o["w"], *options, list(o["x"].shape))
    op = torch.ops.mkldnn._convolution_pointwise.default
    return Prepared(functools.partial(op, o["x"], w, None, *options, "none", [], ""))


def _layer(layers: Any, o: Operands) -> torch.nn.Module:
    """A layer of the namespace with the operands' weight, channels_last, in eval mode."""
    p = o.problem
    layer = layers.Conv2d(p.C, p.K, (p.R, p.S), *_geometry(p), p.groups, bias=False)
    with torch.no_grad():
        layer.weight = torch.nn.Parameter(o["w"].clone(memory_format=torch.channels_last))
    made: torch.nn.Module = layer.eval()
    return made


def _module(freeze: bool, o: Operands, task: Task) -> Prepared | str:
    """A layer in eval mode: its weight is packed once, and where it is not frozen compared with that
    in each call.
    """
    if task != "fprop":
        return "inference alone"
    layer = _layer(fastconv.nn, o)
    if freeze:
        fastconv.freeze(layer)
    x = o["x"].clone(memory_format=torch.channels_last)
    return Prepared(functools.partial(layer, x))


def module(o: Operands) -> tuple[torch.nn.Module, torch.Tensor]:
    """torch's layer and its input."""
    return _layer(torch.nn, o), o["x"].clone(memory_format=torch.channels_last)


def node(o: Operands) -> Node | str:
    """ONNX's Conv, NCHW."""
    p = o.problem
    stride, padding, dilation = _geometry(p)
    if min(padding) < 0:
        return "ONNX's padding is at least 0"
    attributes = {
        "strides": stride,
        "pads": padding * 2,
        "dilations": dilation,
        "kernel_shape": [p.R, p.S],
        "group": p.groups,
    }
    return Node("Conv", attributes, o["x"], {"w": o["w"]}, o["dy"].shape)


def field(task: Task, regime: Regime) -> list[Peer]:
    """Inference takes a layer of ours whose weight is packed once, or torch's function enabled;
    training the latter, with gradients on.
    """
    eager = {"torch channels_last": _channels_last, "torch contiguous": _contiguous}
    if task != "fprop":
        ours = Peer(OURS, "torch", _channels_last, fastconv.enabled)
        return [ours, *(Peer(name, "torch", make, WITH_GRADIENTS) for name, make in eager.items())]
    peers = [Peer(name, "torch", make) for name, make in eager.items()]
    if regime == "unpacked":
        return [Peer(OURS, "torch", _channels_last, enabled_inference), *peers]
    made = functools.partial(_module, regime == "packed")
    return [Peer(OURS, "torch", made), *peers, Peer("oneDNN prepacked", "torch", _prepacked)]


PART = dataclasses.replace(
    of_family(FAMILY),
    goals=GOALS,
    torch_call=torch_call,
    field=field,
    node=node,
    module=module,
)
