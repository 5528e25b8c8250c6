"""Triton's rows on NumPy arrays, with the functions of a native table: by the interpreter
(TRITON_INTERPRET=1) on the CPU, or on the current GPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fastconv import families
from fastconv.families.record import Operand
from fastconv.problem_text import Problem
from fastconv.testing import inputs
from fastconv.triton import ROWS, Config, Row, call, choice

__all__ = ["configured", "packed_bytes", "rows", "run", "why_not"]

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
    return choice.why_not(_row(name), families.decode(text))


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


def _dense(array: Array, operand: Operand, p: Problem) -> tuple[Array, bool]:
    """The memory of an operand's array, and whether its axis of channels lies last in it."""
    if operand.kind in ("activation", "index"):
        return array, p.layout(operand.side) == "nhwc"
    if operand.kind == "weight" and not array.flags.c_contiguous:
        return np.moveaxis(array, 1, -1), True
    return array, False


def _tensor(array: Array, operand: Operand, p: Problem) -> torch.Tensor:
    """The operand by its extents: on the CPU in the array's own memory."""
    memory, last = _dense(array, operand, p)
    t = torch.from_numpy(memory)
    if operand.kind not in ("channels", "index") and p.dtype == "bf16":
        t = t.view(torch.bfloat16)
    t = t.to(DEVICE)
    return t.movedim(-1, 1) if last else t


def _copy_back(t: torch.Tensor, array: Array, operand: Operand, p: Problem) -> None:
    memory, last = _dense(array, operand, p)
    host = (t.movedim(1, -1) if last else t).contiguous().cpu()
    bits = host.view(torch.int16) if host.dtype == torch.bfloat16 else host
    memory[...] = bits.numpy().view(memory.dtype)


def run(
    name: str,
    text: str,
    *,
    activation: str = "none",
    **arrays: Array,
) -> Array:
    """Runs a row on operands by name, and returns "out", which is made where it is not given."""
    p, row = families.decode(text), _row(name)
    family = families.named(row.family)
    operands, written = family.operands[row.direction], family.output(row.direction)
    if written.name not in arrays:
        arrays[written.name] = inputs.room(written, p)[1]
    tensors = {
        each.name: _tensor(arrays[each.name], each, p) for each in operands if each.name in arrays
    }
    call.run(row, p, tensors, activation, _config)
    for each in operands:
        if DEVICE == "cuda" and each.written and each.name in arrays:
            _copy_back(tensors[each.name], arrays[each.name], each, p)
    return arrays[written.name]
