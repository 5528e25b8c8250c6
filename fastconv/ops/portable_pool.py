"""The two directions of pool run from Python, by a Triton row.

For CUDA tensors where the op library has no CUDA kernels, and for every tensor where there is no op
library. A pool is its op's name and `arguments` (ops/pool.py). The twin of csrc/torch/pool_call.cc.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastconv import policy
from fastconv.families.pool import PoolProblem
from fastconv.ops.layout import dense_strides
from fastconv.ops.rows import row_for
from fastconv.tensors import DTYPES, INDEX_DTYPES, layout_of, lifted

__all__ = ["backward_on_triton", "forward_on_triton"]

Size = Sequence[int]
_MOST = 2**31 - 1  # that torch takes of a window


def _expanded(values: Size, axes: int, least: int) -> list[int] | None:
    """A number for each axis; None for what is no list of them, or below `least`."""
    given = [int(value) for value in values]
    given = given * axes if len(given) == 1 else given
    fits = len(given) == axes and all(least <= value <= _MOST for value in given)
    return given if fits else None


def _outputs(extent: int, taps: int, stride: int, pad: int, dilation: int, ceil: bool) -> int:
    """torch's number of outputs along an axis; 0 where a window has no input, of which torch makes
    what it finds.
    """
    span = extent + 2 * pad - dilation * (taps - 1) - 1
    if span < 0:
        return 0
    count = (span + (stride - 1 if ceil else 0)) // stride + 1
    if ceil and (count - 1) * stride >= extent + pad:
        count -= 1
    if pad == 0 and (count - 1) * stride < extent:
        return count
    for o in range(count):
        first = o * stride - pad
        begin = -(first // dilation) if first < 0 else 0
        if begin >= taps or first + begin * dilation >= extent:
            return 0
    return count


def _windows(mode: str, extents: Size, arguments: tuple[Any, ...]) -> dict[str, Any] | None:
    """The fields of fixed windows; None where torch's own kernel has to see the arguments."""
    axes = len(extents)
    window, stride, padding = arguments[:3]
    dilation, ceil = (arguments[3], arguments[4]) if mode == "max" else ([1], arguments[3])
    taps, strides, pads, dilations = (
        _expanded(window, axes, 1),
        _expanded(stride if len(stride) else window, axes, 1),
        _expanded(padding, axes, 0),
        _expanded(dilation, axes, 1),
    )
    if taps is None or strides is None or pads is None or dilations is None:
        return None
    if any(2 * pad > tap for pad, tap in zip(pads, taps, strict=True)):
        return None
    fields: dict[str, Any] = {}
    if mode == "avg":
        count_include_pad, divisor = arguments[4:6]
        if divisor is not None and divisor < 1:
            return None
        fields = {"count_include_pad": bool(count_include_pad), "divisor": divisor or 0}
    for i, (axis, tap, out) in enumerate(
        zip("dhw"[-axes:], "TRS"[-axes:], "ZPQ"[-axes:], strict=True)
    ):
        steps = (strides[i], pads[i], dilations[i])
        fields |= {
            f"{name}_{axis}": step
            for name, step in zip(("stride", "pad", "dilation"), steps, strict=True)
        }
        fields[tap] = taps[i]
        fields[out] = _outputs(extents[i], taps[i], *steps, bool(ceil))
    return fields


def _problem(
    name: str, sizes: Size, dtype: torch.dtype, arguments: tuple[Any, ...], index: str
) -> PoolProblem | None:
    """The record of a call on an input of these sizes, whatever its layouts; None where torch's own
    kernel has to see it.
    """
    n, c, *extents = (int(size) for size in sizes)
    axes = len(extents)
    if axes not in (2, 3) or dtype not in DTYPES or min((c, *extents)) < 1:
        return None
    mode = "max" if "max" in name else "avg"
    fields: dict[str, Any] | None
    if name.startswith("adaptive"):
        outputs = _expanded(arguments[0], axes, 1)
        if outputs is None:
            return None
        fields = {"adaptive": True} | dict(zip("ZPQ"[-axes:], outputs, strict=True))
    else:
        fields = _windows(mode, extents, arguments)
    if fields is None or min(fields[letter] for letter in "ZPQ"[-axes:]) < 1:
        return None
    fields |= dict(zip("DHW"[-axes:], extents, strict=True))
    if index == "u8":
        fields["index"] = "u8"
    return PoolProblem(N=n, C=c, mode=mode, dtype=DTYPES[dtype], **fields)


def _y_sizes(p: PoolProblem, axes: int) -> tuple[int, ...]:
    return (p.N, p.C, *(p.Z, p.P, p.Q)[3 - axes :])


def _layout(t: Tensor, preferred: str) -> str:
    """How `t` lies: as preferred, where it can be read so."""
    last = preferred == "nhwc"
    format = torch.channels_last_3d if last else torch.contiguous_format
    return preferred if lifted(t).is_contiguous(memory_format=format) else layout_of(t)


def forward_on_triton(
    name: str, x: Tensor, arguments: tuple[Any, ...], last: bool, index: str, kernel: str
) -> tuple[Tensor, Tensor | None] | None:
    """The pool of x and its indices, int64 ("i64"), bytes ("u8") or none (""), in channels last or
    contiguous; None where torch's kernel is to run.
    """
    p = _problem(name, x.shape, x.dtype, arguments, index)
    if p is None:
        return None
    layout = "nhwc" if last else "nchw"
    p = p.replace(x_layout=_layout(x, layout), y_layout=layout)
    row = row_for("fprop", p, x.device, kernel, index == "u8")
    if row is None:
        return None
    from fastconv.triton import call

    sizes = _y_sizes(p, x.dim() - 2)
    strides = dense_strides(sizes, last)
    out, places = x.new_empty_strided(sizes, strides), None
    if index:
        places = x.new_empty_strided(sizes, strides, dtype=INDEX_DTYPES[index])
    call.run(row, p, {"x": x, "out": out, "index": places})
    policy.note_kernel("fprop", row.name, "pool")
    return out, places


def backward_on_triton(
    name: str, dy: Tensor, index: Tensor | None, sizes: Size, last: bool,
    arguments: tuple[Any, ...], kernel: str,
) -> Tensor | None:  # fmt: skip
    """The gradient of an input of `sizes`, in channels last or contiguous; None where torch's
    kernel is to run.
    """
    kinds = {None: ""} | {dtype: name for name, dtype in INDEX_DTYPES.items()}
    kind = kinds.get(None if index is None else index.dtype)
    p = _problem(name, sizes, dy.dtype, arguments, kind or "")
    if p is None or kind is None or tuple(dy.shape) != _y_sizes(p, len(sizes) - 2):
        return None
    if index is not None and (index.shape != dy.shape or index.device != dy.device):
        return None
    layout = "nhwc" if last else "nchw"
    p = p.replace(x_layout=layout, y_layout=_layout(dy, layout))
    row = row_for("dgrad", p, dy.device, kernel, kind == "u8")
    if row is None:
        return None
    from fastconv.triton import call

    out = dy.new_empty_strided(sizes, dense_strides(sizes, last))
    call.run(row, p, {"dy": dy, "index": index, "out": out})
    policy.note_kernel("dgrad", row.name, "pool")
    return out
