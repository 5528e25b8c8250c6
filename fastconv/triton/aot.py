"""Compiles the rows for GPUs that are not here, and reads what came out: `python -m fastconv.triton.aot [NAME]`.

Every launch of a row's default configuration, on those of its family's shapes for it
(testing/shapes) that name its algorithm, is compiled for compute capability 9.0, the first also for 8.0, with the
specialization that Triton would give it at run time. Prints a JSON line for each kernel. Not under
TRITON_INTERPRET=1.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from fastconv import families
from fastconv.families.record import Operand
from fastconv.problem_text import Problem
from fastconv.tensors import INDEX_DTYPES, TORCH_DTYPES
from fastconv.triton import ROWS, Row
from fastconv.triton.choice import ask
from fastconv.triton.launch import Launch, recorded
from fastconv.triton.row import Args

__all__ = ["CAPABILITIES", "Compiled", "compile_launch", "launches"]

CAPABILITIES = (80, 90)
_POINTERS = {
    torch.float32: "*fp32", torch.float64: "*fp64", torch.bfloat16: "*bf16", torch.float16: "*fp16",
    torch.int64: "*i64", torch.uint8: "*u8",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A kernel of a row as a GPU would get it; sizes in bytes, of one block or one thread."""

    row: str
    problem: str
    kernel: str
    capability: int
    registers: int
    stack: int
    shared: int
    uses_dot: bool
    tensor_core: bool


def _tensor(p: Problem, operand: Operand) -> torch.Tensor:
    """An operand on device meta, dense in the problem's layout; a weight with its channels last."""
    dtype = TORCH_DTYPES[p.dtype]
    if operand.kind == "channels":
        wide = torch.float64 if p.dtype == "f64" else torch.float32
        return torch.empty(operand.extents(p), dtype=wide, device="meta")
    if operand.kind == "index":
        dtype = INDEX_DTYPES[families.of(p).indexed(p)]
    last = operand.kind == "weight" or p.layout(operand.side) == "nhwc"
    format = torch.channels_last_3d if last else torch.contiguous_format
    return torch.empty(operand.extents(p), dtype=dtype, device="meta", memory_format=format)


def launches(row: Row, p: Problem) -> list[Launch]:
    """What the row would launch for the problem, with all that a call may bring; on no device."""
    family = families.named(row.family)
    given = {
        each.name: _tensor(p, each)
        for each in family.operands[row.direction]
        if family.has(p, each) and (each.kind != "index" or family.indexed(p))
    }
    activation = "relu" if family.has_epilogue(row.direction) else "none"
    with recorded() as found:
        row.run(p, Args(**given, activation=activation), row.configs(p)[0])
    return found


def _source(launch: Launch) -> tuple[Any, dict[str, Any]]:
    """The kernel with its types and constants, as the JIT would specialize it, and the options."""
    from triton.compiler import ASTSource

    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: dict[tuple[int, ...], list[list[Any]]] = {}
    for index, parameter in enumerate(launch.kernel.params):
        value = launch.arguments[parameter.name]
        if parameter.is_constexpr or value is None or (type(value) is int and value == 1):
            signature[parameter.name] = "constexpr"
            constants[parameter.name] = value
            continue
        if isinstance(value, torch.Tensor):
            signature[parameter.name] = _POINTERS[value.dtype]
        else:
            signature[parameter.name] = "i32" if -(2**31) <= value < 2**31 else "i64"
        if isinstance(value, torch.Tensor) or value % 16 == 0:
            attributes[(index,)] = [["tt.divisibility", 16]]
    options: dict[str, Any] = {
        name: launch.arguments[name]
        for name in ("num_warps", "num_stages")
        if name in launch.arguments
    }
    return ASTSource(launch.kernel, signature, constants, attributes), options


def _tool(name: str) -> Path:
    """A program of the toolkit that triton's wheel carries."""
    path = resources.files("triton") / "backends" / "nvidia" / "bin" / name
    return Path(str(path))


def compile_launch(launch: Launch, capability: int) -> tuple[dict[str, int], str, str]:
    """Resources of the compiled kernel, its TTIR and its SASS."""
    import triton
    from triton.backends.compiler import GPUTarget

    source, options = _source(launch)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        printed = subprocess.run(
            [_tool("cuobjdump"), "--dump-resource-usage", "--dump-sass", cubin],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    found = re.search(r"REG:(\d+) STACK:(\d+)", printed)
    assert found is not None, printed[:500]
    usage = {
        "registers": int(found[1]),
        "stack": int(found[2]),
        "shared": int(compiled.metadata.shared),
    }
    return usage, compiled.asm["ttir"], printed


def _jobs(pattern: str) -> Iterator[tuple[str, str, int]]:
    from fastconv.testing import shapes

    for row in ROWS:
        if pattern not in row.name:
            continue
        family = shapes.triton(row.family)
        cases = [case for case in family if case.name.split(".")[0] == row.algorithm]
        is_first = True  # one a row is compiled for the older GPU too
        for dtype in ("f16", "f32"):
            problems = [case.problem.replace(dtype=dtype) for case in cases]
            taken = [p for p in problems if ask(row, p) == (None, p)]
            # float32 on one layer is enough where the row also has 16-bit numbers.
            for p in taken if dtype == "f16" or row.numerics != "exact" else taken[:1]:
                for capability in CAPABILITIES if is_first else CAPABILITIES[-1:]:
                    yield row.name, p.encode(), capability
                is_first = False


def _compile(job: tuple[str, str, int]) -> list[Compiled]:
    name, problem, capability = job
    row = next(row for row in ROWS if row.name == name)
    results = []
    for launch in launches(row, families.decode(problem)):
        usage, ttir, sass = compile_launch(launch, capability)
        results.append(
            Compiled(
                row=name,
                problem=problem,
                kernel=f"{launch.kernel.__module__.rpartition('.')[2]}.{launch.kernel.__name__}",
                capability=capability,
                uses_dot="tt.dot" in ttir,
                tensor_core=bool(re.search(r"\b(HMMA|HGMMA|DMMA)\.", sass)),
                **usage,
            )
        )
    return results


def main(pattern: str = "", workers: int | None = None) -> None:
    """Prints a JSON line for each kernel of the rows whose name has `pattern`."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers or os.cpu_count(), spawn) as pool:
        for found in pool.map(_compile, _jobs(pattern)):
            for compiled in found:
                print(json.dumps(dataclasses.asdict(compiled)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
