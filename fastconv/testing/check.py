"""Runs one kernel on one problem through its native module and compares with the oracle."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv.problem import ConvProblem
from fastconv.registry import Kernel, module
from fastconv.testing import inputs, reference, tolerance


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a kernel is called: values, epilogue, filter layout, alignment, packed weight."""

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
def _wanted(p: ConvProblem, direction: str, integers: bool, seed: int) -> npt.NDArray[np.float64]:
    data = inputs.operands(p, integers, seed)
    if direction == "fprop":
        return reference.fprop(p, data.x, data.w)
    if direction == "dgrad":
        return reference.dgrad(p, data.dy, data.w)
    return reference.wgrad(p, data.x, data.dy)


def _filter(array: npt.NDArray[Any], krsc: bool, offset: int) -> npt.NDArray[Any]:
    """A [K,C/groups,T,R,S] view of a filter that lies as krsc or kcrs."""
    if not krsc:
        return inputs.guarded_copy(array, offset)
    return np.moveaxis(inputs.guarded_copy(inputs.to_layout(array, "nhwc"), offset), -1, 1)


def runner(kernel: Kernel) -> Any:
    """What runs the kernel on NumPy arrays."""
    if kernel.target != "triton":
        return module(kernel.device)
    from fastconv.testing import triton_rows

    return triton_rows


def failure(kernel: Kernel, p: ConvProblem, setting: Setting, seed: int = 0) -> str | None:
    """None where the kernel is right, else what is wrong in words.

    Right means: equal on integers where the class promises it, else within the tolerance; every
    element written;
    nothing written outside.
    """
    core = runner(kernel)
    data = inputs.operands(p, setting.integers, seed)
    wanted = _wanted(p, kernel.direction, setting.integers, seed)
    largest = data.largest**2
    offset = setting.offset
    if kernel.device != "cpu" and kernel.target != "triton":  # CUDA's rows want 16 bytes
        offset *= 16 // inputs.NUMPY_DTYPE[p.dtype].itemsize

    def place(operand: str, values: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        layout = p.x_layout if operand == "x" else p.y_layout
        return inputs.guarded_copy(
            inputs.to_layout(inputs.to_bits(values, p.dtype), layout), offset
        )

    w = _filter(inputs.to_bits(data.w, p.dtype), setting.krsc, offset)
    numpy_dtype = inputs.NUMPY_DTYPE[p.dtype]
    if kernel.direction == "wgrad":
        shape: tuple[int, ...] = (p.K, p.C_per_group, p.T, p.R, p.S)
        if setting.krsc:
            shape = (shape[0], *shape[2:], shape[1])
        out = inputs.Guarded(shape, numpy_dtype, offset)
        view = np.moveaxis(out.array, -1, 1) if setting.krsc else out.array
        core.wgrad(kernel.name, p.encode(), place("x", data.x), place("y", data.dy), view)
        have = inputs.from_bits(view, p.dtype)
    else:
        fprop = kernel.direction == "fprop"
        operand, layout = ("y", p.y_layout) if fprop else ("x", p.x_layout)
        out = inputs.Guarded(inputs.activation_shape(p, operand), numpy_dtype, offset)
        options: dict[str, Any] = {}
        if setting.epilogue:
            options, wanted, largest = _epilogue(p, wanted, setting, operand, largest, place)
        if setting.packed and core.packed_bytes(kernel.name, p.encode()):
            options["packed"] = core.pack(kernel.name, p.encode(), w)
        run = core.fprop if fprop else core.dgrad
        source = place("x", data.x) if fprop else place("y", data.dy)
        run(kernel.name, p.encode(), source, w, out.array, **options)
        have = inputs.from_layout(inputs.from_bits(out.array, p.dtype), layout)
    if not out.intact():
        return "wrote outside its output"
    depth = p.accumulation_depth(kernel.direction)
    if setting.integers and tolerance.is_exact_on_integers(
        p.dtype, kernel.numerics, depth * largest + 16
    ):
        bound = tolerance.Tolerance(0.0, 0.0)
    else:
        bound = tolerance.real(
            p, kernel.direction, kernel.numerics, largest, blocked=kernel.device == "cpu"
        )
    return _describe(have, wanted, bound)


def _epilogue(
    p: ConvProblem,
    sums: npt.NDArray[np.float64],
    setting: Setting,
    operand: str,
    largest: float,
    place: Any,
) -> tuple[dict[str, Any], npt.NDArray[np.float64], float]:
    """Options of the call, the wanted result, and the largest product after scaling by up to 2."""
    random = np.random.default_rng(1)
    channels = sums.shape[1]
    if setting.integers:
        scale, shift = random.integers(-2, 2, (2, channels), endpoint=True).astype(np.float64)
        residual = random.integers(-2, 2, sums.shape, endpoint=True).astype(np.float64)
    else:
        scale, shift = random.uniform(-1, 1, (2, channels)).astype(np.float32).astype(np.float64)
        residual = random.uniform(-1, 1, sums.shape)
        residual = inputs.from_bits(inputs.to_bits(residual, p.dtype), p.dtype)
    wide = np.float64 if p.dtype == "f64" else np.float32
    options = {
        "scale": scale.astype(wide),
        "shift": shift.astype(wide),
        "residual": place(operand, residual),
        "activation": setting.activation,
    }
    column = (1, channels, 1, 1, 1)
    wanted = reference.activate(
        sums * scale.reshape(column) + shift.reshape(column) + residual, setting.activation
    )
    return options, wanted, largest * 2


def _describe(
    have: npt.NDArray[np.float64], want: npt.NDArray[np.float64], bound: tolerance.Tolerance
) -> str | None:
    wrong = bound.violations(have, want)
    if not wrong.any():
        return None
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    return (
        f"{int(wrong.sum())} of {want.size} elements are wrong, first {index}: {have[index]:.9g}, not "
        f"{want[index]:.9g} (atol {bound.atol:.3g}, rtol {bound.rtol:.3g})"
    )
