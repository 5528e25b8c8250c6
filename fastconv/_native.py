"""The op library: loaded here, once, or the reason why it is not."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import torch

from fastconv._pure_state import PureState

__all__ = ["Prefer", "WhyNotGuest", "has_cuda", "lib", "library_path", "serves", "state", "why_not"]

#: What the library asks of rows that Python runs (csrc/torch/api.h).
WhyNotGuest = ctypes.CFUNCTYPE(
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


def _declare(library: ctypes.CDLL) -> None:
    ints = ctypes.POINTER(ctypes.c_int64)
    declarations: dict[str, tuple[object, list[object]]] = {
        "install": (None, []),
        "set_enabled": (None, [ctypes.c_int]),
        "get_enabled": (ctypes.c_int, []),
        "scope_enabled": (ctypes.c_int, [ctypes.c_int]),
        "set_precision": (None, [ctypes.c_int]),
        "get_precision": (ctypes.c_int, []),
        "scope_precision": (ctypes.c_int, [ctypes.c_int]),
        "has_cuda": (ctypes.c_int, []),
        "set_allow_tf32": (None, [ctypes.c_int]),
        "find_kernel": (ctypes.c_int, [ctypes.c_char_p, ctypes.POINTER(ctypes.c_int)]),
        "kernel_name": (ctypes.c_char_p, [ctypes.c_int]),
        "set_kernel": (None, [ctypes.c_int, ctypes.c_int]),
        "scope_kernel": (ctypes.c_int, [ctypes.c_int, ctypes.c_int]),
        "get_kernel": (ctypes.c_int, [ctypes.c_int]),
        "last_kernel": (ctypes.c_char_p, [ctypes.c_int]),
        "note_kernel": (None, [ctypes.c_int, ctypes.c_int]),
        "add_guest": (ctypes.c_int, [ctypes.c_char_p, ctypes.c_int, ctypes.c_int]),
        "set_answers": (None, [WhyNotGuest, Prefer]),
        "intern_geometry": (
            ctypes.c_int64,
            [ctypes.c_int64, ints, ints, ints, ints, ctypes.c_int, ctypes.c_int64],
        ),
        "new_cache": (ctypes.c_int64, []),
        "drop_cache": (None, [ctypes.c_int64]),
        "cache_packings": (ctypes.c_int64, [ctypes.c_int64]),
        "cache_bytes": (ctypes.c_int64, [ctypes.c_int64]),
    }
    for name, (result, arguments) in declarations.items():
        function = getattr(library, f"fastconv_{name}")
        function.restype = result
        function.argtypes = arguments


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
        torch.ops.load_library(path)
        library = ctypes.CDLL(str(path))
        _declare(library)
    except (OSError, RuntimeError, AttributeError) as error:
        why_not = f"{path.name} could not be loaded by torch {torch.__version__}: {error}"
        return
    lib = library
    has_cuda = bool(library.fastconv_has_cuda())


_load()
#: Who keeps the settings: the library, or its stand-in.
state: Any = PureState() if lib is None else lib
