"""What stands in two languages says the same in both: names, the precision rule, the tolerances."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from fastconv import _tables, families, reference, tensors
from fastconv.problem import ConvProblem
from fastconv.testing import inputs, tolerance
from fastconv.testing import reference as oracle
from fastconv.words import ACTIVATIONS, ELEMENT_SIZE, NUMERICS, PRECISIONS, why_too_inexact

ROOT = Path(__file__).resolve().parents[1]
CONV = _tables.table("conv")
EMULATED = _tables.table("conv", "cuda_on_cpu")


def names_in(error: ValueError) -> tuple[str, ...]:
    """The names that an error says it must be one of."""
    return tuple(re.findall(r"'(\w+)'", str(error).partition("must be one of")[2]))


def test_activations() -> None:
    x, w = np.zeros((1, 1, 1, 1), "f"), np.zeros((1, 1, 1, 1), "f")
    with pytest.raises(ValueError, match="activation is 'gelu'") as told:
        CONV.run("conv_fprop_ref", "n1_k1", x=x, w=w, activation="gelu")
    assert names_in(told.value) == ACTIVATIONS
    assert tuple(reference.ACTIVATIONS) == ACTIVATIONS
    values = np.linspace(-9, 9, 37)
    for name in ACTIVATIONS:
        want = reference.ACTIVATIONS[name](tensors.torch.from_numpy(values)).numpy()
        np.testing.assert_allclose(oracle.activate(values, name), want, rtol=1e-12, atol=1e-12)


def test_precisions_and_directions() -> None:
    with pytest.raises(ValueError, match="precision is 'low'") as told:
        CONV.choose("fprop", "n1_k1", "low")
    assert names_in(told.value) == PRECISIONS
    with pytest.raises(ValueError, match="direction is 'forward'") as told:
        CONV.choose("forward", "n1_k1")
    assert names_in(told.value) == families.named("conv").directions


def test_dtypes() -> None:
    for known in (
        tensors.TORCH_DTYPES, inputs.NUMPY_DTYPE, tolerance.EPSILON, tolerance.EXACT_LIMIT
    ):  # fmt: skip
        assert set(known) == set(ELEMENT_SIZE)
    for name, size in ELEMENT_SIZE.items():
        assert tensors.TORCH_DTYPES[name].itemsize == inputs.NUMPY_DTYPE[name].itemsize == size
        assert CONV.canonical(f"n1_k1_{name}") == ConvProblem(dtype=name).encode()


def test_numerics() -> None:
    rows = [*CONV.rows(), *EMULATED.rows()]
    assert {row.numerics for row in rows} == set(NUMERICS) == set(tolerance.FACTOR)


#: Filters 3x3 whose deeper side is C: products in a transformed space on both sides of the limit.
DEPTHS = [16, 1816, 1824, 4096]


@pytest.mark.parametrize("C", DEPTHS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("allow_tf32", [False, True])
def test_the_precision_rule(precision: str, C: int, allow_tf32: bool) -> None:
    """Every reason of inexactness that Python gives, C++ gives, and no other."""
    problem = ConvProblem(N=1, C=C, H=8, W=8, K=32, R=3, S=3, pad_h=1, pad_w=1)
    transposed = problem.replace(C=32, K=C)
    known = {
        why_too_inexact(numerics, depth, level, False)
        for numerics in NUMERICS
        for depth in (0, 1 << 30)
        for level in PRECISIONS
    }
    asked = set()
    for table, told in (
        (CONV, {}),
        (EMULATED, {"capability": 90, "allow_tf32": allow_tf32}),
    ):
        for row in table.rows():
            for p in (problem, transposed):
                if table.why_not(row.name, p.encode(), **told) is not None:
                    continue
                asked.add(row.numerics)
                want = why_too_inexact(row.numerics, p.transform_depth, precision, allow_tf32)
                have = table.why_not_auto(row.name, p.encode(), precision, **told)
                assert (have if have in known else None) == want, row.name
    assert asked == set(NUMERICS)


def sources(folder: str) -> str:
    return "\n".join(
        path.read_text(encoding="utf-8") for path in sorted((ROOT / "csrc" / folder).iterdir())
    )


def cpp_cases(function: str, enumeration: str) -> dict[str, float]:
    """The numbers that a function of csrc/tools has for an enumeration's values."""
    body = re.search(
        rf"double {function}\({enumeration} \w+\) \{{(.*?)\n\}}", sources("tools"), re.DOTALL
    )
    assert body, f"csrc/tools has no {function}({enumeration})"
    found = {}
    for name, value in re.findall(rf"case {enumeration}::k(\w+): return ([^;]+);", body[1]):
        terms = re.findall(r"0x1p-?\d+|\d+", value)
        found[name] = sum(float.fromhex(t) if "p" in t else float(t) for t in terms)
    return found


def cpp_growth(depth: int) -> list[float]:
    """What `growth` of csrc/tools returns: of CUDA's rows, then of the CPU's."""
    body = re.search(r"double growth\(int64_t depth\) \{(.*?)\n\}", sources("tools"), re.DOTALL)
    assert body, "csrc/tools has no growth(depth)"
    code = body[1].replace("std::", "").replace("static_cast<double>", "float")
    known: dict[str, object] = {"sqrt": math.sqrt, "float": float, "depth": depth}
    found = []
    for statement in re.findall(r"(const double [^;]+|return [^;]+);", code):
        if statement.startswith("return"):
            value = statement.removeprefix("return ")
            value = re.sub(r"(.+) \? (.+) : (.+)", r"\2 if \1 else \3", value)
            found.append(eval(value, known))
        else:
            for each in re.split(r", (?=\w+ = )", statement.removeprefix("const double ")):
                exec(each, known)
    return found


def test_the_tolerances() -> None:
    """kernel_test judges by the same table."""
    spelled = {"Exact": "exact", "TF32": "tf32", "Float32": "f32", "Float64": "f64"}
    spelled |= {"WinogradF2": "winograd_f2", "WinogradF4": "winograd_f4"}
    spelled |= {"BFloat16": "bf16", "Float16": "f16"}
    exact = {"UInt8", "Int8"}
    for function, enumeration, table in (
        ("factor", "Numerics", tolerance.FACTOR),
        ("epsilon", "DType", tolerance.EPSILON),
    ):
        cases = cpp_cases(function, enumeration)
        assert not any(cases.pop(name, 0) for name in exact)
        assert {spelled[name]: value for name, value in cases.items()} == table
    for depth in (1, 9, 576, 4608, 4609, 100_000):
        plain, blocked = cpp_growth(depth)
        assert plain == pytest.approx(tolerance.growth(depth))
        assert blocked == pytest.approx(tolerance.growth(depth, blocked=True))
