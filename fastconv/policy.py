"""Which kernel may serve: named by hand (`use`), and how exact it has to be (`precision`)."""

from __future__ import annotations

import contextlib
import ctypes
import difflib
import os
from collections.abc import Iterator

from fastconv import _cuda, _native, python_rows
from fastconv.slots import slot
from fastconv.words import PRECISIONS

__all__ = ["get_precision", "last_kernel", "precision", "set_precision", "tell_tf32", "use"]


def _find(name: str) -> tuple[int, int]:
    """The row's slot and index. Raises ValueError, with names near it, where there is none, and
    TypeError for what is no name.
    """
    if not isinstance(name, str):
        raise TypeError(f"fastconv.use takes names of kernels, not {name!r}")
    state = _native.state
    own = ctypes.c_int()

    def index_of() -> int:
        if "\0" in name:  # C would take it for the end
            return -1
        return int(state.fastconv_find_kernel(name.encode(), ctypes.byref(own)))

    index = index_of()
    if index < 0 and python_rows.register():  # from now on the table has Triton's rows too
        index = index_of()
    if index < 0:
        names: list[str] = []
        while (row := state.fastconv_kernel_name(len(names))) is not None:
            names.append(row.decode())
        if not names:
            raise RuntimeError(
                f"fastconv.use({name!r}): there are no native kernels: {_native.why_not}"
            )
        near = difflib.get_close_matches(name, names, 3, 0.5)
        hint = f"the nearest are: {', '.join(near)}" if near else "fastconv.kernels() lists them"
        raise ValueError(f"no kernel is named {name!r}; {hint}")
    return own.value, index


@contextlib.contextmanager
def use(*names: str) -> Iterator[None]:
    """Within the scope, this thread's calls run on the kernels named, one per family and direction.

    Holds for the ops, layers and functions of fastconv, and for torch's own where `enable()` put
    fastconv under them. Raises ValueError for an unknown name; a call that the kernel does not take
    raises RuntimeError with the kernel's reason. The environment variable FASTCONV_KERNEL names
    kernels for the whole process, separated by commas.
    """
    rows = [_find(name) for name in names]
    state = _native.state
    before: list[tuple[int, int]] = []
    try:
        for own, index in rows:
            before.append((own, state.fastconv_scope_kernel(own, index)))
        yield
    finally:
        for own, index in reversed(before):
            state.fastconv_scope_kernel(own, index)


def last_kernel(direction: str, family: str = "conv") -> str | None:
    """The kernel that this thread's last call of a family in a direction ran on; None where it ran on
    torch's, or where there was no call yet::

        fastconv.last_kernel("fprop")  # of a convolution
        fastconv.last_kernel("dgrad", "pool")  # of a pool's gradient

    Args:
        direction: "fprop" (forward), "dgrad" (gradient of the input) or, of convolutions alone, "wgrad"
            (gradient of the weight). Of a transposed convolution "dgrad" is the forward call.
        family: "conv", "pool" or "unpool".

    Raises:
        ValueError: for a direction that the family does not have, and for an unknown family.
        TypeError: for what is no name.
    """
    name = _native.state.fastconv_last_kernel(slot(family, direction))
    return None if name is None else str(name.decode())


def named_kernel(direction: str, family: str = "conv") -> str | None:
    """The kernel that holds for this thread by `use` or FASTCONV_KERNEL."""
    state = _native.state
    name = state.fastconv_kernel_name(state.fastconv_get_kernel(slot(family, direction)))
    return None if name is None else str(name.decode())


def note_kernel(direction: str, name: str | None, family: str = "conv") -> None:
    """Says which kernel a call ran on that the op library did not see."""
    index = -1 if name is None else _find(name)[1]
    _native.state.fastconv_note_kernel(slot(family, direction), index)


def _level(name: str) -> int:
    if name not in PRECISIONS:
        raise ValueError(f"precision has to be one of {', '.join(PRECISIONS)}, got {name!r}")
    return PRECISIONS.index(name)


@contextlib.contextmanager
def precision(level: str) -> Iterator[None]:
    """Within the scope, how far this thread's convolutions may go from the plain sums.

    "exact" takes no Winograd kernel, "high" (the default) takes one where its error bound is inside
    the documented tolerance, "fast" wherever it is the fastest. Raises ValueError for other words.
    """
    number = _level(level)
    before = _native.state.fastconv_scope_precision(number)
    try:
        yield
    finally:
        _native.state.fastconv_scope_precision(before)


def set_precision(level: str) -> None:
    """How far the convolutions of every thread of the process may go from the plain sums, from now on: the
    levels of `fastconv.precision`, whose scopes count before this where they are open.

    Raises ValueError for other words.
    """
    _native.state.fastconv_set_precision(_level(level))


def tell_tf32() -> None:
    """Hands torch's switch for TF32 in CUDA's convolutions on to the op library, which cannot read
    it: `torch.backends.cudnn.conv.fp32_precision`.
    """
    if _native.lib is not None and _native.has_cuda:
        _native.lib.fastconv_set_allow_tf32(int(_cuda.allows_tf32()))


def get_precision() -> str:
    """What holds for this thread now."""
    return PRECISIONS[_native.state.fastconv_get_precision()]


def _apply_environment() -> None:
    for name in filter(None, os.environ.get("FASTCONV_KERNEL", "").split(",")):
        _native.state.fastconv_set_kernel(*_find(name.strip()))


_apply_environment()
