"""Triton's rows on NumPy arrays, with the functions of the native modules: by the interpreter
(TRITON_INTERPRET=1) on the CPU, or on the current GPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fastconv.problem import ConvProblem
from fastconv.triton import ROWS, Config, Row, call, choice

__all__ = ["configured", "dgrad", "fprop", "packed_bytes", "rows", "wgrad", "why_not"]

Array = npt.NDArray[Any]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def rows() -> tuple[Row, ...]:
    """Every row in the order of choice."""
    return ROWS


def _row(name: str) -> Row:
    found = choice.find(name)
    assert found is not None, name
    return found


def why_not(name: str, text: str) -> str | None:
    """As `choice.why_not`, by the kernel's name and the problem's text."""
    return choice.why_not(_row(name), ConvProblem.decode(text))


def packed_bytes(name: str, text: str) -> int:
    """Triton's rows take weights as they lie."""
    return 0


_config: Config | None = None


@contextlib.contextmanager
def configured(config: Config) -> Iterator[None]:
    """Within the scope rows run in this configuration."""
    global _config
    before, _config = _config, config
    try:
        yield
    finally:
        _config = before


def _tensor(array: Array, p: ConvProblem) -> torch.Tensor:
    t = torch.from_numpy(array)
    return (t.view(torch.bfloat16) if p.dtype == "bf16" else t).to(DEVICE)


def _activation(array: Array, p: ConvProblem, layout: str) -> torch.Tensor:
    """[N, C, D, H, W] of an array in `layout`."""
    t = _tensor(array, p)
    return t.movedim(-1, 1) if layout == "nhwc" else t


def _room(array: Array) -> Array:
    """A contiguous view of the memory of an array whose axes were moved."""
    return array if array.flags.c_contiguous else np.moveaxis(array, 1, -1)


def _forward(
    name: str, text: str, source: Array, w: Array, out: Array, options: dict[str, Any]
) -> None:
    p, row = ConvProblem.decode(text), _row(name)
    fprop = row.direction == "fprop"
    layouts = (p.x_layout, p.y_layout) if fprop else (p.y_layout, p.x_layout)
    residual = options.get("residual")
    result = _activation(out, p, layouts[1])
    weight = _tensor(_room(w), p)
    call.run_forward(
        row,
        p,
        _activation(source, p, layouts[0]),
        weight if w.flags.c_contiguous else weight.movedim(-1, 1),
        result,
        **{
            key: torch.from_numpy(options[key]).to(DEVICE)
            for key in ("scale", "shift")
            if options.get(key) is not None
        },
        residual=None if residual is None else _activation(residual, p, layouts[1]),
        activation=options.get("activation", "none"),
        config=_config,
    )
    if DEVICE == "cuda":
        _activation_back(out, result, p, layouts[1])


def _activation_back(out: Array, result: torch.Tensor, p: ConvProblem, layout: str) -> None:
    t = result.movedim(1, -1) if layout == "nhwc" else result
    host = t.contiguous().cpu()
    out[...] = (host.view(torch.int16) if p.dtype == "bf16" else host).numpy().view(out.dtype)


def fprop(name: str, text: str, x: Array, w: Array, out: Array, **options: Any) -> None:
    """y of x and w, into `out`."""
    _forward(name, text, x, w, out, options)


def dgrad(name: str, text: str, dy: Array, w: Array, out: Array, **options: Any) -> None:
    """dx of dy and w, into `out`."""
    _forward(name, text, dy, w, out, options)


def wgrad(name: str, text: str, x: Array, dy: Array, out: Array) -> None:
    """dw of x and dy, into `out` [K, C/groups, T, R, S] of any dense strides."""
    p = ConvProblem.decode(text)
    krsc = not out.flags.c_contiguous
    memory = _room(out)
    target = _tensor(memory, p)
    call.run_wgrad(
        _row(name),
        p,
        _activation(x, p, p.x_layout),
        _activation(dy, p, p.y_layout),
        target.movedim(-1, 1) if krsc else target,
        _config,
    )
    if DEVICE == "cuda":
        host = target.cpu()
        memory[...] = (
            (host.view(torch.int16) if p.dtype == "bf16" else host).numpy().view(memory.dtype)
        )
