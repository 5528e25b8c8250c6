"""Who takes part: each peer turns a layer into a call that is timed."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch.nn.functional import conv2d

import fastconv
from fastconv.bench.workloads import Task, Tensors

Call = Callable[[], Any]
Regime = Literal["packed", "unpacked"]
REGIMES: tuple[Regime, ...] = ("packed", "unpacked")


@dataclasses.dataclass(frozen=True)
class Peer:
    """One way to run a layer.

    Attributes:
        runtime: whose threads spin after a call; peers of one runtime need no pause between them.
        make: the call for a layer, or None where the peer has no such path.
        scope: entered around the calls, not timed.
    """

    name: str
    runtime: str
    make: Callable[[Tensors, Task], Call | None]
    scope: Callable[[], contextlib.AbstractContextManager[Any]] = torch.inference_mode


def aten_call(t: Tensors, task: Task) -> Call:
    """The layer by PyTorch's own functions; under ``fastconv.enabled()`` these reach fastconv's
    kernels.
    """
    if task == "fprop":
        return lambda: conv2d(t.x, t.w, None, t.stride, t.padding, t.dilation, t.problem.groups)
    if task == "step":
        x, w = t.x.detach().requires_grad_(), t.w.detach().requires_grad_()

        def step() -> Any:
            y = conv2d(x, w, None, t.stride, t.padding, t.dilation, t.problem.groups)
            return (y, *torch.autograd.grad(y, (x, w), t.dy))

        return step
    mask = [task == "dgrad", task == "wgrad", False]
    index = 0 if task == "dgrad" else 1
    options = (None, t.stride, t.padding, t.dilation, False, [0, 0], t.problem.groups, mask)
    return lambda: torch.ops.aten.convolution_backward(t.dy, t.x, t.w, *options)[index]


def _channels_last(t: Tensors, task: Task) -> Call:
    return aten_call(t.to(torch.channels_last), task)


def _contiguous(t: Tensors, task: Task) -> Call:
    return aten_call(t.to(torch.contiguous_format), task)


def _prepacked(t: Tensors, task: Task) -> Call | None:
    """oneDNN with its weights reordered beforehand: the op that torch.compile with freezing calls."""
    if (
        task != "fprop"
        or t.problem.dtype not in ("f32", "bf16")
        or not torch.backends.mkldnn.is_available()
    ):
        return None
    t = t.to(torch.channels_last)
    options = (t.padding, t.stride, t.dilation, t.problem.groups)
    w = torch.ops.mkldnn._reorder_convolution_weight(t.w, *options, list(t.x.shape))
    return lambda: torch.ops.mkldnn._convolution_pointwise(t.x, w, None, *options, "none", [], "")


def _module(t: Tensors, task: Task) -> Call | None:
    """A layer in eval mode: its weight is packed once."""
    if task != "fprop":
        return None
    p = t.problem
    layer = fastconv.nn.Conv2d(
        p.C, p.K, (p.R, p.S), (p.stride_h, p.stride_w), (p.pad_h, p.pad_w),
        (p.dilation_h, p.dilation_w), p.groups, bias=False, dtype=t.w.dtype,
    )  # fmt: skip
    layer.weight.data.copy_(t.w)
    layer = layer.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    x = t.x.clone(memory_format=torch.channels_last)
    return lambda: layer(x)


@contextlib.contextmanager
def _enabled_inference() -> Any:
    with torch.inference_mode(), fastconv.enabled():
        yield


OURS = {
    "packed": Peer("fastconv", "torch", _module),
    "unpacked": Peer("fastconv", "torch", _channels_last, _enabled_inference),
}
#: Training runs with gradients, in neither of torch's modes without.
OURS_STEP = Peer("fastconv", "torch", _channels_last, lambda: fastconv.enabled())

TORCH_EAGER = (
    Peer("torch channels_last", "torch", _channels_last),
    Peer("torch contiguous", "torch", _contiguous),
)
TORCH_PACKED = Peer("oneDNN prepacked", "torch", _prepacked)


def others(names: list[str]) -> list[Peer]:
    """Peers that need a package of their own.

    Raises:
        ValueError: for a name that is no peer.
        ImportError: where its package is not installed.
    """
    found: list[Peer] = []
    for name in names:
        if name == "onnxruntime":
            from fastconv.bench import peer_onnxruntime

            found.append(Peer(name, name, peer_onnxruntime.make))
        elif name == "ncnn":
            from fastconv.bench import peer_ncnn

            found.append(Peer(name, name, peer_ncnn.make))
        else:
            raise ValueError(f"peers has {name!r}; it must be a list of 'onnxruntime' and 'ncnn'")
    return found


def field(task: Task, regime: Regime, extra: list[Peer]) -> list[Peer]:
    """fastconv first, then those it is compared with."""
    if task != "fprop":
        eager = [dataclasses.replace(peer, scope=contextlib.nullcontext) for peer in TORCH_EAGER]
        return [OURS_STEP, *eager]
    packed = [TORCH_PACKED, *extra] if regime == "packed" else []
    return [OURS[regime], *TORCH_EAGER, *packed]
