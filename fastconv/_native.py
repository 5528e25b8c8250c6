"""The op library: loaded here, once, or the reason why it is not."""

from __future__ import annotations

import atexit
import ctypes
import mmap
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fastconv._pure_state import PureState

__all__ = [
    "has_cuda",
    "lib",
    "library_path",
    "serves",
    "set_answers",
    "state",
    "uninstall",
    "why_not",
]

#: What the library asks of rows that Python runs (csrc/torch/api.h).
WhyNot = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64
)
Prefer = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_char_p,
)

#: The library's C functions (csrc/torch/api.h); None where it could not be loaded.
lib: ctypes.CDLL | None = None
#: Whether the library has kernels for CUDA tensors.
has_cuda = False
#: Why there are no native kernels, in words; None where there are.
why_not: str | None = None


def serves(tensor: torch.Tensor) -> bool:
    """Whether the library has kernels for tensors of this one's device."""
    return lib is not None and (tensor.is_cpu or (has_cuda and tensor.is_cuda))


def library_path() -> Path:
    """Where the build puts the op library."""
    return Path(__file__).with_name("_torch_ops.so")


_INTS = ctypes.POINTER(ctypes.c_int64)
_INT, _LONG, _TEXT = ctypes.c_int, ctypes.c_int64, ctypes.c_char_p
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "last_error": (_TEXT, []),
    "note_error": (None, [_TEXT]),
    "install": (None, []),
    "uninstall": (None, []),
    "set_enabled": (None, [_INT]),
    "get_enabled": (_INT, []),
    "scope_enabled": (_INT, [_INT]),
    "set_precision": (None, [_INT]),
    "get_precision": (_INT, []),
    "scope_precision": (_INT, [_INT]),
    "has_cuda": (_INT, []),
    "set_allow_tf32": (None, [_INT]),
    "slot": (_INT, [_TEXT, _TEXT]),
    "find_kernel": (_INT, [_TEXT, ctypes.POINTER(_INT)]),
    "kernel_name": (_TEXT, [_INT]),
    "set_kernel": (None, [_INT, _INT]),
    "scope_kernel": (_INT, [_INT, _INT]),
    "get_kernel": (_INT, [_INT]),
    "last_kernel": (_TEXT, [_INT]),
    "note_kernel": (None, [_INT, _INT]),
    "choices": (_LONG, []),
    "add_external": (_INT, [_TEXT, _INT, _INT]),
    "set_answers": (None, [WhyNot, Prefer]),
    "intern_geometry": (_LONG, [_LONG, _INTS, _INTS, _INTS, _INTS, _INT, _LONG]),
    "new_cache": (_LONG, []),
    "drop_cache": (None, [_LONG]),
    "cache_packings": (_LONG, [_LONG]),
    "cache_bytes": (_LONG, [_LONG]),
}
#: Functions without a way to fail: asking them for an error would take longer than they do.
_CANNOT_FAIL = frozenset(
    (
        "last_error", "note_error", "set_enabled", "get_enabled", "scope_enabled", "get_precision",
        "has_cuda", "set_allow_tf32", "kernel_name", "choices", "set_answers",
    )
)  # fmt: skip


def _declare(library: ctypes.CDLL) -> None:
    last_error = library.fastconv_last_error
    last_error.restype = _TEXT

    def raise_error(result: Any, *_: object) -> Any:
        text = last_error()
        if text is not None:
            raise RuntimeError(text.decode())
        return result

    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, f"fastconv_{name}")
        function.restype = result
        function.argtypes = arguments
        if name not in _CANNOT_FAIL:
            function.errcheck = raise_error


def _missing(path: Path) -> list[str]:
    """The functions that the library lacks, found without loading it: once it is loaded its ops are
    defined, and nothing takes that back.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return [name for name in _FUNCTIONS if text.find(b"fastconv_%b\0" % name.encode()) < 0]


def _load() -> None:
    global has_cuda, lib, why_not
    if os.environ.get("FASTCONV_SKIP_NATIVE") == "1":
        why_not = "switched off by the environment variable FASTCONV_SKIP_NATIVE=1"
        return
    path = library_path()
    if not path.exists():
        why_not = (
            f"{path.name} was not built: the install found no C++ compiler, or was told to skip it"
        )
        return
    try:
        missing = _missing(path)
        if missing:
            why_not = f"{path.name} is of another version: it has no fastconv_{missing[0]}"
            return
        torch.ops.load_library(path)
        library = ctypes.CDLL(str(path))
        _declare(library)
    except (OSError, RuntimeError, ValueError) as error:
        why_not = f"{path.name} could not be loaded by torch {torch.__version__}: {error}"
        return
    lib = library
    has_cuda = bool(library.fastconv_has_cuda())


_load()
#: Who keeps the settings: the library, or its stand-in.
state: Any = PureState() if lib is None else lib


_FAILED, _INTERRUPTED = -3, -4  # answers that are none: see FastconvPrefer in csrc/torch/api.h
# Kept for as long as the library may call them: a thread may be inside the ones before the last.
_answers: dict[tuple[Any, Any], tuple[Any, Any]] = {}


def _failed(error: BaseException) -> int:
    """Nothing can be raised through the library's frames: the text goes round them, and the library
    sends an interrupt again, which Python sees once they are left.
    """
    assert lib is not None
    lib.fastconv_note_error(f"{type(error).__name__}: {error}".encode())
    return _INTERRUPTED if isinstance(error, KeyboardInterrupt) else _FAILED


def set_answers(
    why_not: Callable[[bytes, int, bytes], str | None], prefer: Callable[..., int]
) -> None:
    """Has the library ask these two about rows that Python runs, and ask again what it asked before.

    `why_not(name, on_cuda, problem)` gives the reason or None; `prefer` answers FastconvPrefer. An
    exception of theirs becomes a RuntimeError of the call that asked.
    """
    if lib is None:
        return

    def answer_why_not(name: bytes, on_cuda: int, problem: bytes, text: int, size: int) -> int:
        try:
            reason = why_not(name, on_cuda, problem)
            if reason is None:
                return 0
            words = reason.encode()[: size - 1] + b"\0"
            ctypes.memmove(text, words, len(words))
            return 1
        except BaseException as error:
            return _failed(error)

    def answer_prefer(*question: Any) -> int:
        try:
            return int(prefer(*question))
        except BaseException as error:
            return _failed(error)

    if (why_not, prefer) not in _answers:
        _answers[why_not, prefer] = WhyNot(answer_why_not), Prefer(answer_prefer)
    lib.fastconv_set_answers(*_answers[why_not, prefer])


@atexit.register
def _forget_answers() -> None:
    """The callbacks die with the interpreter; a thread may convolve on."""
    if lib is not None:
        lib.fastconv_set_answers(WhyNot(), Prefer())


def uninstall() -> None:
    """Takes fastconv from under aten's convolutions, where nothing has it enabled.

    Only while no other thread of Python's runs: torch's table of kernels must not change under a
    call that is on its way to one. Else the kernels stay, and hand every call over.
    """
    if lib is not None and threading.active_count() == 1:
        lib.fastconv_uninstall()
