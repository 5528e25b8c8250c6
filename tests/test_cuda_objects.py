"""What nvcc made of each CUDA kernel: registers, spills and the instructions that were meant, read from the objects.

The build leaves them under build/; the disassembler comes with triton. Without nvcc there is nothing to read.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    path
    for path in sorted((ROOT / "csrc").glob("*/cuda/*.cu"))
    if "__global__" in path.read_text(encoding="utf-8")
    or "_sm" in path.stem  # whose kernels are in its engine's header
]
#: Rows that are written to be read, not to be fast.
UNTUNED = re.compile(r"_ref_")
#: Instructions that a file's kernels must contain, by its family and name.
INSTRUCTIONS = {
    r"_(igemm|grouped)_.*_sm80$": ["HMMA", "LDGSTS"],
    r"_(igemm|grouped)_nhwc_sm80$|(fprop|dgrad)_(igemm|grouped)_tf32_": ["LDSM"],
    r"_depthwise_nhwc_": [r"LDG\.E\.128"],
    r"^pool_\w+_nhwc_": [r"LDG\.E\.128", r"STG\.E\.128"],
    r"^pool_fprop_direct_nhwc_": ["HMNMX2"],
    r"_sm90a$": ["HGMMA", "UTMALDG"],
    r"fprop_igemm_nhwc_sm90a$": [r"UTMALDG\.4D\.IM2COL\.MULTICAST"],
    # Both operands lie as pixels by channels.
    r"wgrad_igemm_nhwc_sm90a$": [r"HGMMA[^;]*\.tnspA\.tnspB", r"UTMALDG\.4D\.IM2COL"],
}

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on this machine")


def name_of(source: Path) -> str:
    """As a row's: a file's name belongs to its family."""
    return f"{source.parts[-3]}_{source.stem}"


@functools.cache
def cuobjdump() -> str:
    """The disassembler of the triton wheel."""
    spec = importlib.util.find_spec("triton")
    assert spec and spec.submodule_search_locations, (
        "triton is not installed (requirements/test.txt)"
    )
    return str(Path(spec.submodule_search_locations[0]) / "backends/nvidia/bin/cuobjdump")


def object_of(source: Path) -> Path:
    """The newest object of a source under build/."""
    name = f"{source.relative_to(ROOT)}.o"
    found = [
        path
        for path in (ROOT / "build").rglob(f"{source.name}.o")
        if str(path).endswith(name) and "cuda_on_cpu" not in str(path)
    ]
    assert found, f"no object of {name_of(source)} under build/: `make install` leaves them there"
    return max(found, key=lambda path: path.stat().st_mtime)


def read(source: Path, *options: str) -> str:
    command = [cuobjdump(), *options, str(object_of(source))]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def resources(source: Path) -> list[tuple[str, int, int, int]]:
    """Of each kernel and architecture: name, registers, bytes of stack and of local memory."""
    usage = re.findall(
        r"Function (\S+):\n\s*REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)",
        read(source, "-res-usage"),
    )
    assert usage, "no kernel in the object"
    return [
        (name, int(registers), int(stack), int(local)) for name, registers, stack, local in usage
    ]


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_nothing_spills(source: Path) -> None:
    usage = resources(source)
    if UNTUNED.search(name_of(source)):
        return
    spilled = [
        f"{name}: {registers} registers, stack {stack}, local {local}"
        for name, registers, stack, local in usage
        if stack or local
    ]
    assert not spilled, "\n".join(spilled)


@pytest.mark.parametrize(
    "source",
    [path for path in SOURCES if not path.stem.endswith("_sm90a")],  # no PTX, and one block each
    ids=name_of,
)
def test_registers_allow_the_blocks_that_a_kernel_states(source: Path) -> None:
    """Shared memory is checked where it is known: `blocks_fit` (core/cuda/device.h)."""
    headers = dict(
        re.findall(r"\.entry (\w+)\((.*?)^\{", read(source, "-ptx"), re.DOTALL | re.MULTILINE)
    )
    for name, registers, _, _ in resources(source):
        threads, blocks = (
            int(found[1]) if (found := re.search(rf"\.{word} (\d+)", headers[name])) else 1
            for word in ("maxntid", "minnctapersm")
        )
        of_a_warp = -(-registers * 32 // 256) * 256  # a warp's registers come in pieces of 256
        assert -(-threads // 32) * of_a_warp * blocks <= 65536, (
            f"{name}: {registers} registers, {threads} threads, {blocks} blocks"
        )


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_every_architecture_is_there(source: Path) -> None:
    architectures = set(re.findall(r"^arch = (sm_\w+)", read(source, "-res-usage"), re.MULTILINE))
    # What the build was told, else what the Makefile tells it.
    told = os.environ.get("FASTCONV_CUDA_ARCHITECTURES", "80")
    want = {f"sm_{number}" for number in re.findall(r"\d+a?", told)}
    if source.stem.endswith("_sm90a"):
        want = {"sm_90a"}
    assert want <= architectures


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_the_instructions_that_were_meant(source: Path) -> None:
    wanted = [
        one
        for pattern, names in INSTRUCTIONS.items()
        if re.search(pattern, name_of(source))
        for one in names
    ]
    if not wanted:
        return
    sass = read(source, "-sass", "-arch", "sm_90a" if source.stem.endswith("_sm90a") else "sm_80")
    for name in wanted:
        assert re.search(rf"\b{name}", sass), f"no {name}"
