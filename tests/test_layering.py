"""Sources obey the house: the direction of includes and imports, file lengths, no instruction set
leaking out.
"""

from __future__ import annotations

import ast
import fnmatch
import graphlib
import re
import subprocess
from pathlib import Path

import pytest

from fastconv import families
from fastconv.registry import core

ROOT = Path(__file__).resolve().parents[1]
CPP = sorted(
    path for path in (ROOT / "csrc").rglob("*") if path.suffix in (".cc", ".cu", ".h", ".inc")
)
PYTHON = sorted((ROOT / "fastconv").rglob("*.py"))
#: The families that have kernels: each a folder of csrc.
FAMILIES = re.findall(
    r"^FASTCONV_FAMILY\((\w+)",
    (ROOT / "csrc/families.inc").read_text(encoding="utf-8"),
    re.MULTILINE,
)
#: The folders of csrc from the lowest; one includes what is below it, and nothing beside it.
FOLDERS = (("core",), tuple(FAMILIES), ("net",), ("torch", "python", "tools"))
#: The modules of fastconv from the lowest, as patterns of their names, "" for the package itself.
#: A module imports what an earlier pattern names, or what its own does; it is of the pattern that is
#: its name, else of the last that matches.
ORDER = (
    "words", "problem_text", "problem",
    "_version", "_files", "_cuda", "_pure_state", "_native",
    "tensors", "reference", "testing", "testing.reference", "testing.tolerance",
    "families.record", "families.*", "families", "slots",
    "_tables", "plans", "testing.inputs", "testing.shapes",
    "triton.launch", "triton.row", "triton.*", "triton.*_*_n[ch]*", "triton",
    "triton.heuristics", "triton.choice", "triton.call", "triton.aot",
    "_triton", "plan", "registry", "python_rows", "policy", "tune",
    "testing.triton_rows", "testing.check",
    "ops", "ops.*", "functional.*", "functional", "nn.*", "nn", "models.*", "models",
    "convert", "enable", "explain", "info", "",
    "bench", "bench.*", "demo", "cli", "__main__",
)  # fmt: skip


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_of(path: Path) -> str:
    """A module's name without `fastconv.`; "" for the package itself."""
    parts = path.relative_to(ROOT / "fastconv").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_of(path): path for path in PYTHON}


def place(module: str) -> int:
    """A module's place in the order."""
    if module in ORDER:
        return ORDER.index(module)
    places = [i for i, pattern in enumerate(ORDER) if fnmatch.fnmatchcase(module, pattern)]
    assert places, f"{module} has no place in the order"
    return max(places)


def imported(module: str) -> set[str]:
    """The modules of fastconv that one imports, be it inside a function."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "fastconv":  # a module, or what is in one
                found.add(rest if rest in MODULES else rest.rpartition(".")[0])
    return found - {module}


def test_every_family_is_known_everywhere() -> None:
    """A folder of csrc with a table, a line in families.inc, a file in fastconv/families."""
    folders = {path.parent.name for path in (ROOT / "csrc").glob("*/kernels.inc")}
    assert folders == set(FAMILIES)
    assert set(FAMILIES) <= {family.name for family in families.all()}
    assert {path.name for path in (ROOT / "csrc").iterdir() if path.is_dir()} <= {
        folder for level in FOLDERS for folder in level
    }


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module or "fastconv")
def test_imports(module: str) -> None:
    for name in imported(module):
        assert name in MODULES, f"{module} imports {name}"
        assert place(name) <= place(module), f"{module} is below {name}, which it imports"


def test_no_modules_import_each_other() -> None:
    list(graphlib.TopologicalSorter({each: imported(each) for each in MODULES}).static_order())


def test_every_place_is_taken() -> None:
    assert {place(module) for module in MODULES} == set(range(len(ORDER)))


@pytest.mark.parametrize("path", [p for p in CPP if p.parent.name != "csrc"], ids=relative)
def test_includes(path: Path) -> None:
    folder = path.relative_to(ROOT / "csrc").parts[0]
    level = next(i for i, names in enumerate(FOLDERS) if folder in names)
    below = {name for names in FOLDERS[:level] for name in names}
    text = path.read_text(encoding="utf-8")
    for include in re.findall(r'#include "([^"]+)"', text):
        assert (ROOT / "csrc" / include).exists(), f"{include} is not a path under csrc/"
        every = {"families.inc", "families.h"} if level > 1 else {"families.inc"}
        assert include.split("/")[0] in below | {folder} | every, include
    if folder != "torch":
        assert not re.search(r"#include <(torch|ATen|c10)/", text)
    if folder != "python":
        assert not re.search(r"#include <(pybind11/|Python\.h)", text)
    if re.search(r"#include <cuda", text):
        assert relative(path).startswith("csrc/core/cuda/") or path.name in ("half.h", "device.h")
    if "immintrin.h" in text:
        assert path.name.startswith("simd_") or "__AVX512F__" in text or "__x86_64__" in text


@pytest.mark.parametrize(
    "path",
    [p for p in CPP if p.parts[-3] in FAMILIES and p.parts[-2] == "cpu"],
    ids=relative,
)
def test_kernel_files(path: Path) -> None:
    """Kernel files are compiled once for each instruction set: nothing of them may be shared by
    linking.
    """
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    for word in (
        r"std::(vector|string|function|map|array)\b",
        r"\bnew\b (?!line)",
        r"\bmalloc\(",
        r"\bthrow\b",
        r"\bomp_|_OPENMP",
    ):
        code = re.sub(r"//.*", "", text)
        assert not re.search(rf"{word}", code), word
    if path.suffix == ".h" and path.name not in ("ref.h", "table.h"):  # which declare alone
        assert "namespace {" in text


@pytest.mark.parametrize(
    "path",
    [p for p in CPP if p.parts[-3] in FAMILIES and p.parts[-2] == "cuda"],
    ids=relative,
)
def test_cuda_kernel_files(path: Path) -> None:
    """CUDA kernels say everything through core/cuda, so that core/cuda_on_cpu can run them."""
    code, family = re.sub(r"//.*", "", path.read_text(encoding="utf-8")), path.parts[-3]
    assert len(code.splitlines()) <= 300
    for include in re.findall(r'#include "([^"]+)"', code):
        assert re.match(rf"(core|{family})/(cuda/|[a-z_]+\.h$)", include), include
    for word in (
        r"\basm\b",
        r"__shared__",
        r"<<<",
        r"\batomic",
        r"\b__CUDA",
        r"cuda_on_cpu",
        r"\bcuda[A-Z]",
    ):
        assert not re.search(word, code), word
    if "_sm" in path.stem and path.suffix != ".h":
        rows = path.with_name("kernels.inc").read_text(encoding="utf-8")
        assert f"{family}_{path.stem})" in rows, "a file without a row"


@pytest.mark.parametrize("path", sorted((ROOT / "fastconv" / "triton").glob("*.py")), ids=relative)
def test_triton_files(path: Path) -> None:
    """Launches go through launch.py, products through dot.py, and no sum depends on an order."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    assert "tl.atomic" not in text
    assert path.name == "launch.py" or not re.search(r"\w\[[^\]]*\]\(p_|_kernel\[", text)
    assert path.name == "dot.py" or "tl.dot(" not in text
    directions = {direction for family in families.all() for direction in family.directions}
    if path.stem.split("_")[0] in directions or path.stem.endswith(("_nhwc", "_nchw")):
        assert re.search(rf"\b(?:[a-z]+_)?{path.stem}_triton", text), "a file without its row"


@pytest.mark.parametrize(
    "path", [*CPP, *PYTHON, *sorted((ROOT / "tests").glob("*.py"))], ids=relative
)
def test_file_length(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_no_weak_symbols_in_simd_objects() -> None:
    """An inline function of one instruction set, linked for all, would crash machines that lack it."""
    objects = sorted((ROOT / "build").rglob("fastconv_kernels_avx*.dir/**/*.o"))
    if core() is None:
        pytest.skip("nothing was compiled")
    assert objects, "no objects under build/: `make install` leaves them there"
    leaked = []
    for path in objects:
        listing = subprocess.run(
            ["nm", "-C", str(path)], capture_output=True, text=True, check=True
        ).stdout
        leaked += [
            f"{path.name}: {line}" for line in listing.splitlines() if re.search(r" [WVu] ", line)
        ]
    assert not leaked, "\n".join(leaked[:10])


def test_the_text_is_clean() -> None:
    """No banners, no anchorless TODO."""
    for path in [*CPP, *PYTHON]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            where = f"{relative(path)}:{number}"
            assert not re.search(r"(//|#)\s*[-=*#]{6,}", line), where
            assert "TODO" not in line, where
            assert line == line.rstrip(), where
