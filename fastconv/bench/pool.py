"""Pooling's part in the bench: fastconv's functions, and its ONNX nodes."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from fastconv import functional
from fastconv.bench.onnx import Node
from fastconv.bench.part import Goal, Operands, Peer, Prepared, Regime, Task
from fastconv.bench.parts import field_of, of_family
from fastconv.bench.peers import OURS, WITH_GRADIENTS
from fastconv.families.pool import FAMILY, PoolProblem

GOALS = (Goal("pools", r"pool\.", 1.5, 1.0),)
_FORMATS = {"nhwc": torch.channels_last, "nchw": torch.contiguous_format}


def _geometry(p: PoolProblem) -> tuple[list[int], list[int], list[int], list[int]]:
    """Window, stride, padding and dilation as torch takes them."""
    return (
        [p.R, p.S], [p.stride_h, p.stride_w], [p.pad_h, p.pad_w], [p.dilation_h, p.dilation_w],
    )  # fmt: skip


def _forward(p: PoolProblem, x: torch.Tensor) -> torch.Tensor:
    """The layer by `fastconv.functional`."""
    if p.adaptive:
        call = getattr(functional, f"adaptive_{p.mode}_pool2d")
        return call(x, (p.P, p.Q))  # type: ignore[no-any-return]
    window, stride, padding, dilation = _geometry(p)
    ceil = not p.is_derived()
    if p.mode == "max":
        return functional.max_pool2d(x, window, stride, padding, dilation, ceil)  # type: ignore[no-any-return]
    means = (ceil, p.count_include_pad, p.divisor or None)
    return functional.avg_pool2d(x, window, stride, padding, *means)


def _ours(o: Operands, task: Task) -> Prepared | str:
    """In the problem's memory format: what is forward keeps no indices."""
    p, o = o.problem, o.to(_FORMATS[o.problem.x_layout])
    if task == "fprop":
        return Prepared(lambda: _forward(p, o["x"]))
    if task == "dgrad":  # the op alone, as torch's: no peer is charged for autograd
        return Prepared(FAMILY.native_call(p, "dgrad", {"x": o["x"], "dy": o["dy"]}, ""))
    x, dy = o["x"].detach().requires_grad_(), o["dy"]

    def step() -> Any:
        y = _forward(p, x)
        return (y, *torch.autograd.grad(y, x, dy))

    return Prepared(step)


def field(task: Task, regime: Regime) -> list[Peer]:
    """fastconv's functions, then torch's in both memory formats."""
    scope = torch.inference_mode if task == "fprop" else WITH_GRADIENTS
    return [Peer(OURS, "torch", _ours, scope), *field_of(FAMILY, task, regime)[1:]]


def node(o: Operands) -> Node | str:
    """ONNX's MaxPool, AveragePool or the global ones, NCHW."""
    p: PoolProblem = o.problem
    word = {"max": "MaxPool", "avg": "AveragePool"}[p.mode]
    if p.adaptive:
        if (p.P, p.Q) != (1, 1):
            return "ONNX has no adaptive windows"
        return Node(f"Global{word}", {}, o["x"], {}, o["dy"].shape)
    if p.divisor:
        return "ONNX has no divisor"
    window, stride, padding, dilation = _geometry(p)
    attributes: dict[str, int | list[int]] = {
        "kernel_shape": window, "strides": stride, "pads": padding * 2,
        "ceil_mode": int(not p.is_derived()),
    }  # fmt: skip
    if p.mode == "max":
        attributes["dilations"] = dilation
    else:
        attributes["count_include_pad"] = int(p.count_include_pad)
    return Node(word, attributes, o["x"], {}, o["dy"].shape)


PART = dataclasses.replace(of_family(FAMILY), goals=GOALS, field=field, node=node)
