"""Runs one kernel on one problem on NumPy arrays and compares with its family's oracle."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv import families
from fastconv.problem_text import Problem
from fastconv.registry import Kernel, table
from fastconv.testing import inputs, reference, tolerance

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a kernel is called: values, epilogue, filter layout, alignment, packed weight; each where
    its direction has it.
    """

    integers: bool
    epilogue: bool = False
    activation: str = "none"
    krsc: bool = False
    offset: int = 0
    packed: bool = False


SETTINGS = (
    Setting(integers=True),
    Setting(integers=True, epilogue=True, activation="relu", krsc=True, offset=1, packed=True),
    Setting(integers=False, epilogue=True, activation="hardswish"),
)


@functools.lru_cache(maxsize=64)
def wanted(p: Problem, direction: str, integers: bool, seed: int = 0) -> Array:
    """The direction's true sums of `inputs.operands` of the same arguments."""
    return families.of(p).oracle(p, direction, inputs.operands(p, integers, seed).values)


def runner(kernel: Kernel) -> Any:
    """What runs the kernel on NumPy arrays."""
    if kernel.target != "triton":
        return table(kernel.family, kernel.device)
    from fastconv.testing import triton_rows

    return triton_rows


def run(kernel: Kernel, p: Problem, data: inputs.Operands, **options: Any) -> npt.NDArray[Any]:
    """What the kernel computes of `data`, as it lies."""
    operands = inputs.stored(p, kernel.direction, data)
    out: npt.NDArray[Any] = runner(kernel).run(kernel.name, p.encode(), **operands, **options)
    return out


def failure(kernel: Kernel, p: Problem, setting: Setting, seed: int = 0) -> str | None:
    """None where the kernel is right, else what is wrong in words.

    Right means: equal on integers where the class promises it, else within the tolerance; every
    element written;
    nothing written outside.
    """
    rows, family, direction = runner(kernel), families.named(kernel.family), kernel.direction
    data = inputs.operands(p, setting.integers, seed)
    want = wanted(p, direction, setting.integers, seed)
    largest = data.largest**family.factors
    offset = index_offset = setting.offset
    if kernel.device != "cpu" and kernel.target != "triton":  # CUDA's rows want 16 bytes
        offset *= 16 // inputs.NUMPY_DTYPE[p.dtype].itemsize
        index_offset *= 16

    given: dict[str, Any] = {
        each.name: inputs.store(data.values[each.name], each, p, offset, setting.krsc)
        for each in family.inputs(direction, p)
    }
    written = family.output(direction)
    guarded, given[written.name] = inputs.room(written, p, offset, setting.krsc)
    if setting.epilogue and family.has_epilogue(direction):
        values = _epilogue(p, direction, setting.integers)
        want = reference.epilogue(want, setting.activation, **values)
        largest *= 2  # after scaling by up to 2
        given["activation"] = setting.activation
        given |= {
            each.name: inputs.store(values[each.name], each, p, offset)
            for each in family.epilogue(direction)
        }
    beside = family.index_of(direction, p) if setting.epilogue else None
    if beside:
        guarded_index, given[beside.name] = inputs.room(beside, p, index_offset)
    if setting.packed and rows.packed_bytes(kernel.name, p.encode()):
        given["packed"] = rows.pack(kernel.name, p.encode(), given["w"])
    rows.run(kernel.name, p.encode(), **given)
    have = inputs.load(given[written.name], written, p)
    if not guarded.intact():
        return "wrote outside its output"
    if beside:
        wrong = _wrong_indices(p, inputs.load(given[beside.name], beside, p), data)
        if wrong or not guarded_index.intact():
            return wrong or "wrote outside its indices"
    depth = p.accumulation_depth(direction)
    if (
        setting.integers
        and family.is_exact(p, direction)
        and tolerance.is_exact_on_integers(p.dtype, kernel.numerics, depth * largest + 16)
    ):
        bound = tolerance.Tolerance(0.0, 0.0)
    else:
        blocked = kernel.device == "cpu" and kernel.target != "triton"
        bound = tolerance.real(p, direction, kernel.numerics, largest, blocked)
    return _describe(have, want, bound)


def _epilogue(p: Problem, direction: str, integers: bool) -> dict[str, Array]:
    """Values of the direction's optional operands, exact in the types they are taken in."""
    random = np.random.default_rng(1)
    found = {}
    for each in families.of(p).epilogue(direction):
        dtype = p.dtype if each.kind != "channels" else "f32"
        found[each.name] = inputs.draw(random, each.extents(p), dtype, integers)
    return found


def _wrong_indices(p: Problem, have: npt.NDArray[Any], data: inputs.Operands) -> str | None:
    wrong = np.argwhere(have != data.index)
    if not len(wrong):
        return None
    at = tuple(int(i) for i in wrong[0])
    return f"{len(wrong)} of {have.size} indices are wrong, first {at}: {have[at]}, not {data.index[at]}"


def _describe(have: Array, want: Array, bound: tolerance.Tolerance) -> str | None:
    wrong = bound.violations(have, want)
    if not wrong.any():
        return None
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    return (
        f"{int(wrong.sum())} of {want.size} elements are wrong, first {index}: {have[index]:.9g}, not "
        f"{want[index]:.9g} (atol {bound.atol:.3g}, rtol {bound.rtol:.3g})"
    )
