"""Convolution: y of x and w, and its gradients; transposed, grouped and depthwise ones as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastconv import reference
from fastconv.families.record import Call, Family, Operand, Shapes, epilogue
from fastconv.problem import ConvProblem
from fastconv.tensors import axes_of
from fastconv.testing.reference import taps

__all__ = ["FAMILY", "dgrad", "fprop", "geometry", "wgrad"]

Array = npt.NDArray[np.float64]

_X, _DY = Operand("x", "activation", "x"), Operand("dy", "activation", "y")
_W = Operand("w", "weight")
_OPERANDS = {
    "fprop": (_X, _W, *epilogue("y"), Operand("out", "activation", "y", written=True)),
    "dgrad": (_DY, _W, *epilogue("x"), Operand("out", "activation", "x", written=True)),
    "wgrad": (_X, _DY, Operand("out", "weight", written=True)),
}


def _grouped(
    p: ConvProblem,
    x: Array | None,
    w: Array | None,
    y: Array | None,
) -> list[Any]:
    """Operands as [N, g, c, d, h, w], [g, k, c, t, r, s] and [N, g, k, z, p, q] in float64."""
    return [
        None
        if x is None
        else np.asarray(x, np.float64).reshape(p.N, p.groups, p.C_per_group, p.D, p.H, p.W),
        None
        if w is None
        else np.asarray(w, np.float64).reshape(
            p.groups, p.K_per_group, p.C_per_group, p.T, p.R, p.S
        ),
        None
        if y is None
        else np.asarray(y, np.float64).reshape(p.N, p.groups, p.K_per_group, p.Z, p.P, p.Q),
    ]


def fprop(p: ConvProblem, x: Array, w: Array) -> Array:
    """``y`` [N,K,Z,P,Q] of ``x`` [N,C,D,H,W] and ``w`` [K,C/groups,T,R,S]."""
    x, w, _ = _grouped(p, x, w, None)
    y = np.zeros((p.N, p.groups, p.K_per_group, p.Z, p.P, p.Q))
    for (t, r, s), outs, ins in taps(p):
        y[:, :, :, *outs] += np.einsum(
            "ngcdhw,gkc->ngkdhw", x[:, :, :, *ins], w[..., t, r, s], optimize=True
        )
    return y.reshape(p.N, p.K, p.Z, p.P, p.Q)


def dgrad(p: ConvProblem, dy: Array, w: Array) -> Array:
    """``dx`` [N,C,D,H,W] of ``dy`` [N,K,Z,P,Q] and ``w`` [K,C/groups,T,R,S]."""
    _, w, dy = _grouped(p, None, w, dy)
    dx = np.zeros((p.N, p.groups, p.C_per_group, p.D, p.H, p.W))
    for (t, r, s), outs, ins in taps(p):
        dx[:, :, :, *ins] += np.einsum(
            "ngkdhw,gkc->ngcdhw", dy[:, :, :, *outs], w[..., t, r, s], optimize=True
        )
    return dx.reshape(p.N, p.C, p.D, p.H, p.W)


def wgrad(p: ConvProblem, x: Array, dy: Array) -> Array:
    """``dw`` [K,C/groups,T,R,S] of ``x`` [N,C,D,H,W] and ``dy`` [N,K,Z,P,Q]."""
    x, _, dy = _grouped(p, x, None, dy)
    dw = np.zeros((p.groups, p.K_per_group, p.C_per_group, p.T, p.R, p.S))
    for (t, r, s), outs, ins in taps(p):
        dw[..., t, r, s] = np.einsum(
            "ngcdhw,ngkdhw->gkc", x[:, :, :, *ins], dy[:, :, :, *outs], optimize=True
        )
    return dw.reshape(p.K, p.C_per_group, p.T, p.R, p.S)


def _oracle(p: ConvProblem, direction: str, given: Mapping[str, Array]) -> Array:
    if direction == "fprop":
        return fprop(p, given["x"], given["w"])
    if direction == "dgrad":
        return dgrad(p, given["dy"], given["w"])
    return wgrad(p, given["x"], given["dy"])


def geometry(p: ConvProblem) -> tuple[list[int], list[int], list[int], int]:
    """Stride, padding and dilation of the axes that torch is given, and groups."""
    first = 3 - axes_of(p)
    return (
        [p.stride_d, p.stride_h, p.stride_w][first:],
        [p.pad_d, p.pad_h, p.pad_w][first:],
        [p.dilation_d, p.dilation_h, p.dilation_w][first:],
        p.groups,
    )


def _torch_call(p: ConvProblem, direction: str, t: Mapping[str, Tensor]) -> Call:
    if direction == "fprop":
        return lambda: reference.conv(t["x"], t["w"], None, *geometry(p))
    *steps, groups = geometry(p)
    mask = [direction == "dgrad", direction == "wgrad", False]
    options = (None, *steps, False, [0] * axes_of(p), groups, mask)
    backward, index = torch.ops.aten.convolution_backward, mask.index(True)
    return lambda: backward(t["dy"], t["x"], t["w"], *options)[index]


def _native_call(p: ConvProblem, direction: str, t: Mapping[str, Tensor], kernel: str) -> Call:
    ops: Any = torch.ops.fastconv
    x, w, dy = t["x"], t["w"], t["dy"]
    rest = (*geometry(p), kernel)
    if direction == "fprop":
        return lambda: ops.conv(x, w, None, *rest)
    if direction == "dgrad":
        return lambda: ops.conv_dgrad(dy, w, None, x.shape, *rest)
    return lambda: ops.conv_wgrad(dy, x, w.shape, w.stride(), *rest)


def _why_not_torch(p: ConvProblem) -> str | None:
    if min(p.pad_d, p.pad_h, p.pad_w) < 0 or not p.is_derived():
        return "its padding must be even and at least 0"
    return None


#: What tuning takes first, where time may run out: where torch's own kernels are farthest from a
#: GPU's limits.
_FIRST: tuple[Callable[[ConvProblem], bool], ...] = (
    lambda p: p.is_depthwise,
    lambda p: p.groups > 1,
    lambda p: p.C <= 4,  # a stem
    lambda p: p.dtype == "f32" and (p.R, p.S) == (3, 3),
    lambda p: p.C < 64,
)


def _place(p: ConvProblem) -> int:
    return next((i for i, is_one in enumerate(_FIRST) if is_one(p)), len(_FIRST))


FAMILY = Family(
    name="conv",
    problem=ConvProblem,
    operands=_OPERANDS,
    oracle=_oracle,
    torch_call=_torch_call,
    native_call=_native_call,
    factors=2,
    is_exact=lambda p, direction: True,
    why_not_torch=_why_not_torch,
    place=_place,
    shapes=Shapes("basic.txt", "caches.txt", "cuda.txt", "triton.txt"),
    sets={
        "networks": ("resnet18", "resnet50", "vgg16", "mobilenetv2", "resnext50"),
        "figures": (
            "dense3x3", "deep3x3", "dilated", "pointwise", "stem", "depthwise", "grouped", "training",
        ),
    },
)  # fmt: skip
