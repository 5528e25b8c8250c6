"""core/cuda_on_cpu, which runs CUDA sources without a GPU: its own tests, and faults it must catch.

The programs come from the build folder named by FASTCONV_NATIVE_BUILD, which should be one with
FASTCONV_SANITIZE=address,undefined; without it they are built, which takes a minute.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Each kernel of csrc/tools/cuda_on_cpu_faults.cc, and how its fault shows.
FAULTS = {
    "missing_syncthreads": {"numbers"},
    "barrier_between_uses_missing": {"numbers"},
    "shifted_index": {"numbers"},
    "unwritten_tail": {"numbers"},
    "missing_cp_async_wait": {"numbers"},
    "wrong_swizzle": {"numbers"},
    "wrong_parity": {"numbers", "deadlock"},
    "too_many_bytes_expected": {"deadlock"},
    "slot_not_waited_for": {"numbers", "deadlock", "refused"},
    "store_read_not_waited_for": {"numbers", "refused"},
    "missing_proxy_fence": {"numbers"},
    "barrier_in_a_branch": {"deadlock"},
    "lane_missing_in_a_shuffle": {"deadlock"},
    "past_the_end_of_global_memory": {"address"},
    "copy_past_the_end_of_global_memory": {"address"},
    "past_the_end_of_shared_memory": {"address"},
    "copy_past_the_end_of_shared_memory": {"refused"},
}
#: What a program prints where a fault shows that way.
WORDS = {
    "numbers": "caught: wrong numbers",
    "deadlock": "deadlock:",
    "refused": "caught: refused",
    "address": "AddressSanitizer: heap-buffer-overflow",
}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the two programs."""
    if given := os.environ.get("FASTCONV_NATIVE_BUILD"):
        return Path(given)
    # The environment's own tools come before the system's, as in setup.py's build.
    search = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    cmake, ninja = (shutil.which(tool, path=search) for tool in ("cmake", "ninja"))
    assert cmake and ninja, "cmake and ninja (requirements/build.txt) build the programs"
    folder = tmp_path_factory.mktemp("cuda_on_cpu")
    options = ["TORCH=OFF", "PYTHON=OFF", "CUDA=OFF", "SANITIZE=address,undefined"]
    flags = [f"-DFASTCONV_{option}" for option in options]
    for command in (
        [
            cmake,
            "-S",
            str(ROOT),
            "-B",
            str(folder),
            "-G",
            "Ninja",
            f"-DCMAKE_MAKE_PROGRAM={ninja}",
            *flags,
        ],
        [ninja, "-C", str(folder), "cuda_on_cpu_test", "cuda_on_cpu_faults"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder


def run(build: Path, *command: str) -> tuple[int, str]:
    """The exit code, and all that was printed."""
    program, *arguments = command
    done = subprocess.run(
        [build / program, *arguments], capture_output=True, text=True, check=False, timeout=300
    )
    return done.returncode, done.stdout + done.stderr


def test_the_emulator(build: Path) -> None:
    code, text = run(build, "cuda_on_cpu_test")
    assert code == 0, text
    assert text.splitlines()[-1].endswith(" passed, 0 failed")


def test_every_fault_is_listed(build: Path) -> None:
    _, text = run(build, "cuda_on_cpu_faults", "--list")
    listed = dict(line.split(": ") for line in text.splitlines())
    assert {name: set(how.split()) for name, how in listed.items()} == FAULTS


@pytest.mark.parametrize("name", FAULTS)
def test_kernel_without_fault(build: Path, name: str) -> None:
    code, text = run(build, "cuda_on_cpu_faults", name, "right")
    assert code == 0, text


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_caught(build: Path, name: str) -> None:
    code, text = run(build, "cuda_on_cpu_faults", name, "wrong")
    if FAULTS[name] == {"address"} and code == 0:
        cache = (build / "CMakeCache.txt").read_text(encoding="utf-8")
        if "FASTCONV_SANITIZE:STRING=address" not in cache:
            pytest.skip("needs a build with FASTCONV_SANITIZE=address")
    assert code != 0, "not caught"
    assert any(WORDS[how] in text for how in FAULTS[name]), text
