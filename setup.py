"""Drives CMake; everything else about the package is in pyproject.toml.

Environment: FASTCONV_SKIP_NATIVE=1 (pure Python), FASTCONV_CUDA=AUTO|ON|OFF, FASTCONV_CUDA_LIBRARY (CUDA kernels
built elsewhere), FASTCONV_CUDA_ON_CPU=OFF (an editable install without the module that runs CUDA kernels on the CPU,
which only tests use), MAX_JOBS, CXX, FASTCONV_TORCH_DIR (the torch package whose headers are used; default this
environment's).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


def why_pure() -> str | None:
    """Why nothing is compiled, or None where it is."""
    if os.environ.get("FASTCONV_SKIP_NATIVE") == "1":
        return "FASTCONV_SKIP_NATIVE=1"
    compilers = (os.environ.get("CXX"), "c++", "g++", "clang++")
    if not any(name and shutil.which(name.split()[0]) for name in compilers):
        return "no C++ compiler was found (c++, g++, clang++; CXX names another)"
    return None


def torch_folder() -> Path:
    """The torch package of the environment that is installed into, also from an isolated build."""
    if given := os.environ.get("FASTCONV_TORCH_DIR"):
        return Path(given)
    # An isolated build hides the environment's packages from import, not from the file system.
    for folder in (sysconfig.get_path("platlib"), sysconfig.get_path("purelib"), *sys.path):
        if folder and (Path(folder) / "torch" / "include" / "torch" / "csrc" / "stable").is_dir():
            return Path(folder) / "torch"
    raise SystemExit(
        "fastconv: torch 2.10 or later is not installed in this environment. Its headers are "
        "needed to build the kernels: install torch first, or give its folder by "
        "FASTCONV_TORCH_DIR, or install without kernels by FASTCONV_SKIP_NATIVE=1."
    )


class CMakeBuild(build_ext):
    """One CMake build for the op library and the pybind11 module."""

    def run(self) -> None:
        in_place = self.inplace or self.editable_mode
        destination = ROOT if in_place else Path(self.build_lib).resolve()
        # A fixed folder for the tree that is worked in: what is unchanged is not compiled again.
        folder = ROOT / "build" / "in-place" if in_place else Path(self.build_temp).resolve()
        # The environment's own tools, which are pinned, come before the system's.
        search = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
        cmake, ninja = (shutil.which(tool, path=search) or tool for tool in ("cmake", "ninja"))
        # For tests; no wheel has it.
        emulator = os.environ.get("FASTCONV_CUDA_ON_CPU", "ON").upper() if in_place else "OFF"
        configure = [
            cmake, "-S", str(ROOT), "-B", str(folder), "-G", "Ninja",
            "-DFASTCONV_TOOLS=OFF",
            f"-DFASTCONV_CUDA_ON_CPU_MODULE={emulator}",
            f"-DFASTCONV_CUDA={os.environ.get('FASTCONV_CUDA', 'AUTO').upper()}",
            f"-DFASTCONV_CUDA_LIBRARY={os.environ.get('FASTCONV_CUDA_LIBRARY', '')}",
            f"-DFASTCONV_TORCH_DIR={torch_folder()}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCMAKE_MAKE_PROGRAM={ninja}",  # an isolated build's own is gone the next time
        ]  # fmt: skip
        if architectures := os.environ.get("FASTCONV_CUDA_ARCHITECTURES"):
            configure.append(f"-DFASTCONV_CUDA_ARCHITECTURES={architectures}")
        jobs = os.environ.get("MAX_JOBS")
        subprocess.run(configure, check=True)
        subprocess.run([cmake, "--build", str(folder), *(["-j", jobs] if jobs else [])], check=True)
        subprocess.run([cmake, "--install", str(folder), "--prefix", str(destination)], check=True)

    def get_outputs(self) -> list[str]:
        return [str(path) for path in (Path(self.build_lib) / "fastconv").glob("_*.so")]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


reason = why_pure()
if reason:
    print(f"fastconv: installing without native kernels: {reason}", file=sys.stderr)
setup(
    ext_modules=[] if reason else [Extension("fastconv._native_code", [])],
    cmdclass={"build_ext": CMakeBuild},
)
