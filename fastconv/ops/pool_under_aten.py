"""Triton's rows under aten's pools and their backwards; the twin of csrc/torch/pool.cc."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from fastconv import _native, policy
from fastconv.ops import portable_pool
from fastconv.ops.pool import KINDS, Kind, channels_last_of

__all__ = ["overrides"]

#: aten's defaults, which the dispatcher leaves out where they end a call.
_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "avg_pool": (None, [], [0], False, True, None),
    "max_pool": (None, [], [0], [1], False),
}


def _arguments(kind: Kind, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return given + _DEFAULTS.get(kind.name, ())[len(given) :]


def _forward(kind: Kind, theirs: Any, keys: Any, x: Tensor, *given: Any) -> Any:
    if _native.state.fastconv_get_enabled():
        index = "i64" if kind.indexed else ""
        found = portable_pool.forward_on_triton(
            kind.name, x, _arguments(kind, given), channels_last_of(kind, x), index, ""
        )
        if found is not None:
            return found if kind.indexed else found[0]
    policy.note_kernel("fprop", None, "pool")
    return theirs.call_boxed(keys, x, *given)


def _backward(kind: Kind, theirs: Any, keys: Any, dy: Tensor, x: Tensor, *given: Any) -> Any:
    if _native.state.fastconv_get_enabled():
        index = given[-1] if kind.indexed else None
        arguments = (dy.shape[2:],) if kind.is_adaptive else given[: kind.count]
        dx = portable_pool.backward_on_triton(
            kind.name, dy, index, x.shape, channels_last_of(kind, x), arguments, ""
        )
        if dx is not None:
            return dx
    policy.note_kernel("dgrad", None, "pool")
    return theirs.call_boxed(keys, dy, x, *given)


def overrides() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The names of aten's ops, and what stands in their place: `ours(theirs, keys, *arguments)`."""
    for kind in KINDS.values():
        for axes in (2, 3):
            yield kind.aten(axes).__name__, functools.partial(_forward, kind)
            yield kind.aten_backward(axes).__name__, functools.partial(_backward, kind)
