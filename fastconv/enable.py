"""fastconv under torch's own convolutions and pools: `enable()`, `disable()`, `with enabled():`.

What the flag covers. `enable()` holds for every thread of the process until `disable()`. A scope
holds for the thread that opened it and for what runs inside it: the backward of a call made inside
runs on fastconv's kernels if `backward()` is called inside, on torch's if it is called outside. On
CUDA a backward runs in a thread of autograd's own, which no scope reaches: `enable()` it for training.
Code compiled by `torch.compile` asks at run time, like eager code; AOTInductor packages call
torch's kernels directly and never ask. Calls that `torch.jit.trace` records run on torch's kernels,
which is what it sees; scripted functions reach fastconv, traced graphs hold `aten::_convolution` and
do not. The hooks are installed by the first `enable()` or `enabled()`; before that, nothing in torch
is touched. `disable()` takes them away again, unless another Python thread runs or a scope is open.

`torch.backends.cudnn.conv.fp32_precision` is looked at by each `enable()`, at the beginning of each
scope, and by every call of fastconv's own functions on CUDA tensors: after changing it, call
`enable()` again.
"""

from __future__ import annotations

import contextlib
import warnings
from types import TracebackType

from fastconv import _native, _triton
from fastconv.ops import under_aten
from fastconv.policy import tell_tf32

__all__ = ["can_enable", "disable", "enable", "enabled", "is_enabled"]


def can_enable() -> bool:
    """Whether there is any kernel to put under torch's convolutions and pools."""
    return _native.lib is not None or bool(_triton.device_types())


def _install() -> bool:
    if not can_enable():
        warnings.warn(
            "fastconv: convolutions and pools stay on torch's kernels, for want of the native library: "
            f"{_native.why_not}; and of Triton's kernels: {_triton.why_not()}",
            stacklevel=3,
        )
        return False
    if _native.lib is not None:
        _native.lib.fastconv_install()
        tell_tf32()
    under_aten.install()
    return True


def enable() -> None:
    """Puts fastconv's kernels under every convolution, pool and unpool of the process, on the CPU, and
    on CUDA where they were built.

    torch's own kernel keeps a problem for which no kernel here is known to win, such as the gradient
    of a maximum of contiguous images, and whatever torch takes and no kernel here does: integers,
    for example. `fastconv.explain(model, x)` tells what runs, and the `auto_reason` of each of
    `fastconv.kernels(problem)` why.

    Without CUDA kernels, CUDA tensors are offered to Triton's. Warns and changes nothing where the
    native library is missing and Triton's kernels do not run either.
    """
    if _install():
        _native.state.fastconv_set_enabled(1)


def disable() -> None:
    """Undoes `enable()`; scopes that are open stay as they are."""
    _native.state.fastconv_set_enabled(0)
    _native.uninstall()


def is_enabled() -> bool:
    """Whether a convolution or a pool called by this thread now would be offered to fastconv's kernels."""
    return bool(_native.state.fastconv_get_enabled())


class enabled(contextlib.ContextDecorator):  # noqa: N801 (a context manager, named like torch's)
    """`with enabled():` switches fastconv on for this thread, `with enabled(False):` off.

    Also a decorator. Scopes nest; the innermost counts.
    """

    def __init__(self, on: bool = True) -> None:
        if not isinstance(on, bool):
            raise TypeError(f"on is {on!r}; it must be True or False")
        self._on = on
        self._before: list[int] = []

    def _recreate_cm(self) -> enabled:
        return enabled(self._on)

    def __enter__(self) -> None:
        if not self._on and not can_enable():
            return
        if not _install():
            return
        self._before.append(_native.state.fastconv_scope_enabled(int(self._on)))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before:
            _native.state.fastconv_scope_enabled(self._before.pop())
