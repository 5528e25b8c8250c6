"""What the op library keeps of settings (csrc/torch/state.cc), where there is no op library."""

from __future__ import annotations

import threading
from typing import Any

__all__ = ["PureState"]

_UNSET = -1


class _Thread(threading.local):
    def __init__(self) -> None:
        self.enabled = _UNSET
        self.precision = _UNSET
        self.kernel = [_UNSET] * 3
        self.last = [_UNSET] * 3


class PureState:
    """The library's functions of the same names (csrc/torch/api.h), for the rows that Python runs."""

    def __init__(self) -> None:
        self._rows: list[tuple[bytes, int]] = []
        self._enabled, self._precision = 0, 1
        self._kernel = [_UNSET] * 3
        self._thread = _Thread()

    def fastconv_set_enabled(self, on: int) -> None:
        self._enabled = on

    def fastconv_get_enabled(self) -> int:
        return self._enabled if self._thread.enabled == _UNSET else self._thread.enabled

    def fastconv_scope_enabled(self, on: int) -> int:
        before, self._thread.enabled = self._thread.enabled, on
        return before

    def fastconv_set_precision(self, precision: int) -> None:
        self._precision = precision

    def fastconv_get_precision(self) -> int:
        return self._precision if self._thread.precision == _UNSET else self._thread.precision

    def fastconv_scope_precision(self, precision: int) -> int:
        before, self._thread.precision = self._thread.precision, precision
        return before

    def fastconv_add_guest(self, name: bytes, direction: int, numerics: int) -> int:
        self._rows.append((name, direction))
        return len(self._rows) - 1

    def fastconv_find_kernel(self, name: bytes, direction: Any) -> int:
        for index, (known, way) in enumerate(self._rows):
            if known == name:
                direction._obj.value = way
                return index
        return -1

    def fastconv_kernel_name(self, index: int) -> bytes | None:
        return self._rows[index][0] if 0 <= index < len(self._rows) else None

    def fastconv_set_kernel(self, direction: int, index: int) -> None:
        self._kernel[direction] = index

    def fastconv_get_kernel(self, direction: int) -> int:
        own = self._thread.kernel[direction]
        return self._kernel[direction] if own == _UNSET else own

    def fastconv_scope_kernel(self, direction: int, index: int) -> int:
        before, self._thread.kernel[direction] = self._thread.kernel[direction], index
        return before

    def fastconv_note_kernel(self, direction: int, index: int) -> None:
        self._thread.last[direction] = index

    def fastconv_last_kernel(self, direction: int) -> bytes | None:
        return self.fastconv_kernel_name(self._thread.last[direction])
