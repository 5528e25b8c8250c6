"""The seam between torch, Python and the op library: what goes wrong there is an error, and no more."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers_torch import assert_close

import fastconv
from fastconv import _native, _triton, python_rows
from fastconv.ops.conv import geometry_id
from fastconv.ops.formulas import Geometry

ROOT = Path(__file__).parents[1]
ops = torch.ops.fastconv
ONE = ((1, 1), (1, 1), (1, 1), 1)
NINE = (1,) * 9
lib = _native.lib
assert lib is not None


def run_python(code: str, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(path)},
        cwd=path,
        capture_output=True,
        text=True,
        timeout=120,
    )


# Lists and tensors of more axes than any convolution has.

X, W, DY = torch.ones(1, 2, 4, 4), torch.ones(3, 2, 3, 3), torch.ones(1, 3, 4, 4)
MANY = torch.ones(NINE)
TOO_LONG = {
    "residual": lambda: ops.conv(X, W, None, *ONE, residual=MANY),
    "residual of dgrad": lambda: ops.conv_dgrad(DY, W, None, X.shape, *ONE, residual=MANY),
    "input_size": lambda: ops.conv_dgrad(DY, W, None, NINE, *ONE),
    "grad of dgrad": lambda: ops.conv_dgrad(MANY, W, None, X.shape, *ONE),
    "weight_size": lambda: ops.conv_wgrad(DY, X, NINE, NINE, *ONE),
    "weight_stride": lambda: ops.conv_wgrad(DY, X, W.shape, NINE, *ONE),
    "grad of wgrad": lambda: ops.conv_wgrad(MANY, X, W.shape, W.stride(), *ONE),
    "input of wgrad": lambda: ops.conv_wgrad(DY, MANY, W.shape, W.stride(), *ONE),
    "grad of the bias": lambda: ops.conv_bias_grad(MANY),
    "input": lambda: ops.conv(MANY, W, None, *ONE),
    "weight": lambda: ops.conv(X, MANY, None, *ONE),
    "stride": lambda: ops.conv(X, W, None, NINE, *ONE[1:]),
    "pack": lambda: ops.conv_pack(W, NINE, True, *ONE),
    "weight of pack": lambda: ops.conv_pack(MANY, X.shape, True, *ONE),
    "short backward": lambda: ops._conv_backward(MANY, X, W, number(), 7),
    "short backward of such a weight": lambda: ops._conv_backward(DY, X, MANY, number(), 7),
}


def number() -> int:
    return geometry_id(Geometry(*ONE))


@pytest.mark.parametrize("name", TOO_LONG)
def test_too_many_axes_are_an_error(name) -> None:
    with pytest.raises(RuntimeError):
        TOO_LONG[name]()


def test_too_many_axes_are_an_error_under_aten_too() -> None:
    aten = torch.ops.aten
    with fastconv.enabled():
        for stride, padding in ((NINE, (1, 1)), ((1, 1), NINE)):
            with pytest.raises(RuntimeError):
                F.conv2d(X, W, None, stride, padding)
        for grad, x, w in ((MANY, X, W), (DY, MANY, W), (DY, X, MANY)):
            with pytest.raises(RuntimeError):
                aten.convolution_backward(
                    grad, x, w, [3], *ONE[:3], False, (0, 0), 1, [True, True, True]
                )


def test_arguments_of_a_call_that_fails_are_given_back() -> None:
    def alive(call: object) -> int:
        """References to a fresh residual that are left after the call."""
        residual = torch.ones(1, 3, 4, 4)
        before = residual._use_count()  # type: ignore[attr-defined]
        for _ in range(3):
            with pytest.raises(RuntimeError):
                call(residual)  # type: ignore[operator]
        return int(residual._use_count() - before)  # type: ignore[attr-defined]

    calls = [
        lambda t: ops.conv(t, W, t, *ONE, residual=t, activation="no such", packed=t),
        lambda t: ops.conv(X, t, t, NINE, *ONE[1:], residual=t, scale=t, packed=t),
        lambda t: ops.conv(t, t, None, *ONE, residual=t, kernel_name="no such kernel"),
        lambda t: ops.conv_dgrad(t, t, t, NINE, *ONE, residual=t),
        lambda t: ops.conv_wgrad(t, t, NINE, NINE, *ONE),
        lambda t: ops._conv(t, t, t, -5),
        lambda t: ops._conv_packed(t, t, t, -5, 0, -1),
        lambda t: ops._conv_backward(t, t, t, -5, 7),
    ]
    assert [alive(call) for call in calls] == [0] * len(calls)


def test_residual_of_one_axis_is_laid_out_as_the_result() -> None:
    torch.manual_seed(0)
    w = torch.randn(4, 3, 3).transpose(1, 2).contiguous().transpose(1, 2)
    for x in (torch.randn(2, 3, 8), torch.randn(2, 8, 3).transpose(1, 2)):
        expected = F.conv1d(x, w, padding=1)
        for residual in (torch.randn(2, 4, 8), torch.randn(2, 8, 4).transpose(1, 2)):
            out = ops.conv(x, w, None, (1,), (1,), (1,), 1, residual=residual)
            assert_close(out, expected + residual)


# Answers of Python's.


def failing(kind: type[BaseException]):
    def answer(*_: object) -> int:
        raise kind("out of words")

    return answer


@pytest.fixture
def external():
    """A row that Python is asked about."""
    name = b"conv_fprop_asked_in_tests_triton"
    if lib.fastconv_find_kernel(name, ctypes.byref(ctypes.c_int())) < 0:
        assert lib.fastconv_add_external(name, 0, 0) >= 0
    yield name.decode()
    python_rows.announce()
    if not _triton.is_installed():
        lib.fastconv_set_answers(_native.WhyNot(), _native.Prefer())


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_an_answer_that_raises_is_an_error_of_the_call(kind, external) -> None:
    _native.set_answers(failing(kind), failing(kind))
    with pytest.raises(RuntimeError, match=f"{kind.__name__}: out of words"):
        ops.conv(X, W, None, *ONE, kernel_name=external)
    assert_close(ops.conv(X, W, None, *ONE), F.conv2d(X, W, padding=1))


def test_an_interrupt_of_an_answer_interrupts_the_caller(external) -> None:
    _native.set_answers(failing(KeyboardInterrupt), failing(KeyboardInterrupt))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            try:
                ops.conv(X, W, None, *ONE, kernel_name=external)
            finally:
                for _ in range(100):  # it comes as soon as Python looks
                    pass
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_answer_that_refuses_gives_its_reason(external) -> None:
    _native.set_answers(lambda *_: "it is only asked", failing(ValueError))
    with pytest.raises(RuntimeError, match="it is only asked"):
        ops.conv(X, W, None, *ONE, kernel_name=external)


def test_a_row_of_python_packs_nothing(external) -> None:
    """Its record ends where a row of the library names its kernel."""
    _native.set_answers(lambda *_: None, failing(ValueError))
    packed = ops.conv_pack(W, list(X.shape), False, *ONE, kernel_name=external)
    assert packed.numel() == 0
    layer = fastconv.nn.Conv2d(2, 3, 3, padding=1).eval().requires_grad_(False)
    with fastconv.use(external):  # it cannot run either: then torch's does
        assert_close(layer(X), F.conv2d(X, layer.weight, layer.bias, padding=1))
    assert layer._pack_cache.packings == 0


def test_functions_of_the_library_raise_instead_of_ending_the_process() -> None:
    calls = [
        lambda: lib.fastconv_set_kernel(99, 0),
        lambda: lib.fastconv_set_kernel(-1, 0),
        lambda: lib.fastconv_set_kernel(0, 10**6),
        lambda: lib.fastconv_scope_kernel(99, -1),
        lambda: lib.fastconv_get_kernel(99),
        lambda: lib.fastconv_last_kernel(99),
        lambda: lib.fastconv_note_kernel(-1, -1),
        lambda: lib.fastconv_set_precision(3),
        lambda: lib.fastconv_scope_precision(-2),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="fastconv: "):
            call()
    index = lib.fastconv_find_kernel(b"conv_wgrad_ref", ctypes.byref(ctypes.c_int()))
    with pytest.raises(RuntimeError, match="computes wgrad of conv, not fprop of conv"):
        lib.fastconv_set_kernel(0, index)
    assert lib.fastconv_last_error() is None


def test_answers_are_forgotten_before_the_callbacks_die() -> None:
    run = run_python(
        "import atexit, torch, fastconv\n"
        "from fastconv import _native\n"
        "w = torch.ones(3, 2, 3, 3)\n"
        "def late():\n"  # registered first, so run after the package's own
        "    try:\n"
        "        torch.ops.fastconv.conv(torch.ones(1, 2, 4, 4), w, None, [1, 1], [1, 1], [1, 1], 1,\n"
        "                                kernel_name='conv_fprop_asked_triton')\n"
        "    except RuntimeError as error:\n"
        "        print(error)\n"
        "atexit.unregister(_native._forget_answers)\n"
        "atexit.register(late)\n"
        "atexit.register(_native._forget_answers)\n"
        "_native.set_answers(lambda *_: 'asked too late', lambda *_: -1)\n"
        "_native.lib.fastconv_add_external(b'conv_fprop_asked_triton', 0, 0)\n"
    )
    assert run.returncode == 0, run.stderr
    assert "its library is gone" in run.stdout and "asked too late" not in run.stdout


def test_a_library_of_another_version_is_left_unloaded(tmp_path) -> None:
    package = tmp_path / "fastconv"
    shutil.copytree(
        ROOT / "fastconv", package, ignore=shutil.ignore_patterns("__pycache__", "_core*", "bench")
    )
    library = package / "_torch_ops.so"
    text = library.read_bytes()
    assert b"fastconv_cache_bytes\0" in text
    library.unlink()  # it may be a link
    library.write_bytes(text.replace(b"fastconv_cache_bytes\0", b"fastconv_cache_bytez\0"))
    run = run_python(
        "import torch, fastconv\n"
        "print(fastconv.__file__)\n"
        "from fastconv import _native\n"
        "print(_native.why_not)\n"
        "print(fastconv.functional.conv2d(torch.ones(1, 2, 4, 4), torch.ones(3, 2, 3, 3)).shape)\n",
        tmp_path,
    )
    assert run.returncode == 0, run.stderr
    assert str(tmp_path) in run.stdout and "no fastconv_cache_bytes" in run.stdout
    assert "torch.Size([1, 3, 2, 2])" in run.stdout


# The choice.

FIELDS = {
    "batch": ((2, 8, 9, 9), {}),
    "height": ((1, 8, 10, 9), {}),
    "width": ((1, 8, 9, 10), {}),
    "stride_h": ((1, 8, 9, 9), {"stride": (2, 1)}),
    "stride_w": ((1, 8, 9, 9), {"stride": (1, 2)}),
    "pad_h": ((1, 8, 9, 9), {"padding": (2, 1)}),
    "pad_w": ((1, 8, 9, 9), {"padding": (1, 2)}),
    "dilation_h": ((1, 8, 9, 9), {"dilation": (2, 1)}),
    "dilation_w": ((1, 8, 9, 9), {"dilation": (1, 2)}),
    "groups": ((1, 32, 9, 9), {"groups": 4}),
}


@pytest.mark.parametrize("field", FIELDS)
def test_problems_that_differ_in_one_field_are_remembered_apart(field) -> None:
    w = torch.ones(8, 8, 3, 3)
    sizes, changed = FIELDS[field]
    calls = [(torch.ones(1, 8, 9, 9), {}), (torch.ones(sizes), changed)]
    for _ in range(2):
        for x, kwargs in calls:
            fastconv.functional.conv2d(x, w, **{"padding": 1, **kwargs})
    before = lib.fastconv_choices()
    for _ in range(5):
        for x, kwargs in calls:
            fastconv.functional.conv2d(x, w, **{"padding": 1, **kwargs})
    assert lib.fastconv_choices() == before


def test_detection_asks_for_all_that_the_compiler_may_use() -> None:
    flags = (ROOT / "cmake" / "isa.cmake").read_text()
    asked = set(
        re.findall(
            r'__builtin_cpu_supports\("(\w+)"\)', (ROOT / "csrc/core/cpu/machine.cc").read_text()
        )
    )
    for target in ("avx2", "avx512"):
        line = re.search(rf"set\(FASTCONV_FLAGS_{target} (.*)\)", flags)
        assert line is not None
        used = {flag[2:] for flag in line[1].split() if not flag.startswith("-mprefer")}
        assert used and used <= asked


# Geometries.


def test_geometries_are_interned_and_both_ways_served() -> None:
    torch.manual_seed(0)
    geometry = Geometry((2, 1), (1, 0), (1, 2), 2)
    assert geometry_id(geometry) == geometry_id(Geometry((2, 1), (1, 0), (1, 2), 2))
    turned = geometry_id(geometry, (1, 0))
    assert len({geometry_id(geometry), turned, geometry_id(geometry, (0, 0))}) == 3
    ints = ctypes.c_int64 * 2
    again = lib.fastconv_intern_geometry(
        2, ints(2, 1), ints(1, 0), ints(1, 2), ints(1, 0), 1, 2
    )  # fmt: skip
    assert again == turned
    x = torch.randn(2, 4, 7, 6)
    w = torch.randn(4, 3, 3, 3)
    b = torch.randn(6)
    expected = F.conv_transpose2d(x, w, b, (2, 1), (1, 0), (1, 0), 2, (1, 2))
    assert_close(ops._conv(x, w, b, turned), expected)
    leaves = [t.clone().requires_grad_() for t in (x, w, b)]
    dy = torch.randn_like(expected)
    theirs = torch.autograd.grad(
        F.conv_transpose2d(*leaves, (2, 1), (1, 0), (1, 0), 2, (1, 2)), leaves, dy
    )
    for mine, other in zip(ops._conv_backward(dy, x, w, turned, 7), theirs, strict=True):
        assert_close(mine, other)
    with pytest.raises(RuntimeError, match="no geometry"):
        ops._conv(x, w, b, 1 << 40)
