"""Sources obey the house: the direction of includes and imports, file lengths, no instruction set
leaking out.
"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from fastconv.registry import core

ROOT = Path(__file__).resolve().parents[1]
CPP = sorted(
    path for path in (ROOT / "csrc").rglob("*") if path.suffix in (".cc", ".cu", ".h", ".inc")
)
PYTHON = sorted((ROOT / "fastconv").rglob("*.py"))
#: What a folder of csrc may include, beside itself.
MAY_INCLUDE = {
    "core": set(),
    "conv": {"core"},
    "pool": {"core"},
    "torch": {"core", "conv", "pool"},
    "python": {"core", "conv", "pool"},
    "tools": {"core", "conv", "pool"},
}
#: Modules of fastconv that must not import what stands right of them.
MAY_NOT_IMPORT = {
    "problem": {"registry", "ops", "functional", "nn", "models", "bench", "testing"},
    "registry": {"ops", "functional", "nn", "models", "bench", "testing"},
    "triton": {"ops", "functional", "nn", "models", "bench"},
    "plan": {"ops", "functional", "nn", "models", "bench"},
    "tune": {"ops", "functional", "nn", "models", "bench"},
    "ops": {"functional", "nn", "models", "bench"},
    "functional": {"nn", "models", "bench", "testing"},
    "nn": {"models", "bench", "testing"},
    "models": {"bench", "testing"},
    "testing": {"functional", "nn", "models", "bench"},
}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", CPP, ids=relative)
def test_includes(path: Path) -> None:
    folder = path.relative_to(ROOT / "csrc").parts[0]
    text = path.read_text(encoding="utf-8")
    for include in re.findall(r'#include "([^"]+)"', text):
        assert (ROOT / "csrc" / include).exists(), f"{include} is not a path under csrc/"
        assert include.split("/")[0] in MAY_INCLUDE[folder] | {folder}, include
    if folder != "torch":
        assert not re.search(r"#include <(torch|ATen|c10)/", text)
    if folder != "python":
        assert not re.search(r"#include <(pybind11/|Python\.h)", text)
    if re.search(r"#include <cuda", text):
        assert relative(path).startswith("csrc/core/cuda/") or path.name in ("half.h", "rows.h")
    if "immintrin.h" in text:
        assert path.name.startswith("simd_") or "__AVX512F__" in text or "__x86_64__" in text


@pytest.mark.parametrize(
    "path", [p for p in CPP if p.parts[-3:-1] == ("conv", "cpu")], ids=relative
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
    if path.suffix == ".h" and path.name != "ref.h":
        assert "namespace {" in text


@pytest.mark.parametrize(
    "path", [p for p in CPP if p.parts[-3:-1] == ("conv", "cuda")], ids=relative
)
def test_cuda_kernel_files(path: Path) -> None:
    """CUDA kernels say everything through core/cuda, so that core/cuda_on_cpu can run them."""
    code = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
    assert len(code.splitlines()) <= 300
    for include in re.findall(r'#include "([^"]+)"', code):
        assert re.match(r"core/cuda/|conv/cuda/|core/[a-z_]+\.h$|conv/[a-z_]+\.h$", include), (
            include
        )
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
        rows = (ROOT / "csrc/conv/cuda/kernels.inc").read_text(encoding="utf-8")
        assert f"conv_{path.stem})" in rows, "a file without a row"


@pytest.mark.parametrize("path", sorted((ROOT / "fastconv" / "triton").glob("*.py")), ids=relative)
def test_triton_files(path: Path) -> None:
    """Launches go through launch.py, products through dot.py, and no sum depends on an order."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    assert "tl.atomic" not in text
    assert path.name == "launch.py" or not re.search(r"\w\[[^\]]*\]\(p_|_kernel\[", text)
    assert path.name == "dot.py" or "tl.dot(" not in text
    if path.stem.split("_")[0] in ("fprop", "dgrad", "wgrad"):
        assert f"conv_{path.stem}_triton" in text, "a file without its row"


@pytest.mark.parametrize(
    "path", [*CPP, *PYTHON, *sorted((ROOT / "tests").glob("*.py"))], ids=relative
)
def test_file_length(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_imports(path: Path) -> None:
    layer = path.relative_to(ROOT / "fastconv").parts[0].removesuffix(".py")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "fastconv" and len(parts) > 1:
                assert parts[1] not in MAY_NOT_IMPORT.get(layer, set()), name


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
