"""Between torch's tensors and problem records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastconv.problem import ConvProblem
from fastconv.problem_text import Problem

__all__ = [
    "DTYPES",
    "INDEX_DTYPES",
    "INT64_MAX",
    "TORCH_DTYPES",
    "axes_of",
    "drawn",
    "in_layout",
    "is_int",
    "layout_of",
    "lifted",
    "problem_of",
]

#: The names of torch's dtypes, and the way back: the one table of them.
DTYPES = {torch.float32: "f32", torch.float64: "f64", torch.bfloat16: "bf16", torch.float16: "f16"}
TORCH_DTYPES = {name: dtype for dtype, name in DTYPES.items()}
#: Those of indices, by the names that `fastconv.families.record.Family.indexed` gives.
INDEX_DTYPES = {"i64": torch.int64, "u8": torch.uint8}


#: The largest number that torch takes for an argument.
INT64_MAX = 2**63 - 1


def is_int(value: object) -> bool:
    """Whether torch takes the value for an integer: NumPy's are, True and 1.0 are not."""
    return isinstance(value, (int, torch.SymInt, np.integer)) and not isinstance(value, bool)


def lifted(t: Tensor) -> Tensor:
    """[N, C, ...] with one to three spatial axes as a view with three."""
    if t.dim() == 3:
        return t[:, :, None, None]
    return t[:, :, None] if t.dim() == 4 else t


def layout_of(t: Tensor) -> str:
    """How an activation lies: NCHW, or NHWC, into which one that is dense in neither way is copied."""
    return "nchw" if lifted(t).is_contiguous() else "nhwc"


def _triple(values: Sequence[int], fill: int) -> list[int]:
    return [fill] * (3 - len(values)) + [int(v) for v in values]


def problem_of(
    x: Sequence[int],
    w: Sequence[int],
    y: Sequence[int],
    geometry: tuple[Sequence[int], Sequence[int], Sequence[int], int],
    dtype: torch.dtype,
    layouts: tuple[str, str],
) -> ConvProblem:
    """The record of a convolution of sizes x [N, C, ...] with w [K, C/groups, ...] to y [N, K, ...];
    `geometry` is stride, padding, dilation, groups, `layouts` those of x and y.
    """
    stride, padding, dilation, groups = geometry
    values = {"N": int(x[0]), "C": int(x[1]), "K": int(w[0]), "groups": int(groups)}
    for names, triple in (
        (("D", "H", "W"), _triple(x[2:], 1)),
        (("T", "R", "S"), _triple(w[2:], 1)),
        (("Z", "P", "Q"), _triple(y[2:], 1)),
        (("stride_d", "stride_h", "stride_w"), _triple(stride, 1)),
        (("pad_d", "pad_h", "pad_w"), _triple(padding, 0)),
        (("dilation_d", "dilation_h", "dilation_w"), _triple(dilation, 1)),
    ):
        values |= dict(zip(names, triple, strict=True))
    return ConvProblem(**values, dtype=DTYPES[dtype], x_layout=layouts[0], y_layout=layouts[1])


def axes_of(p: Problem) -> int:
    """How many spatial axes torch is given: 2 for a problem without depth, as torch itself takes
    1-d ones.
    """
    return 2 if p.is_2d else 3


def in_layout(t: Tensor, layout: str) -> Tensor:
    """``t`` [N, C, ...] of two or three axes dense in the layout: itself, or a copy."""
    last = torch.channels_last if t.dim() == 4 else torch.channels_last_3d
    return t.contiguous(memory_format=last if layout == "nhwc" else torch.contiguous_format)


def drawn(
    p: Problem, operands: Iterable[Any], device: torch.device | str = "cpu", seed: int = 0
) -> dict[str, Tensor]:
    """Activations and weights of a problem by name, uniform in [-1, 1] and rounded to its dtype, with
    the axes that torch is given and in the problem's layouts; a weight lies as x does.

    Args:
        operands: `fastconv.families.record.Operand` each.
    """
    generator = torch.Generator(device=device).manual_seed(seed)
    found = {}
    for operand in operands:
        outer, axes = operand.extents(p)[:2], operand.extents(p)[-axes_of(p) :]
        t = torch.rand((*outer, *axes), generator=generator, device=device, dtype=torch.float32)
        layout = p.layout(operand.side) if operand.kind == "activation" else p.x_layout
        found[operand.name] = in_layout((t * 2 - 1).to(TORCH_DTYPES[p.dtype]), layout)
    return found
