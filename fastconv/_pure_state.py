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
        self.kernel: dict[int, int] = {}  # by slot, as `last`
        self.last: dict[int, int] = {}


class PureState:
    """The library's functions of the same names (csrc/torch/api.h), for the rows that Python runs."""

    def __init__(self) -> None:
        self._rows: list[tuple[bytes, int]] = []
        self._enabled, self._precision = 0, 1
        self._slots: dict[tuple[bytes, bytes], int] = {}
        self._kernel: dict[int, int] = {}
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

    def fastconv_slot(self, family: bytes, direction: bytes) -> int:
        return self._slots.setdefault((family, direction), len(self._slots))

    def fastconv_add_external(self, name: bytes, slot: int, numerics: int) -> int:
        self._rows.append((name, slot))
        return len(self._rows) - 1

    def fastconv_find_kernel(self, name: bytes, slot: Any) -> int:
        for index, (known, own) in enumerate(self._rows):
            if known == name:
                slot._obj.value = own
                return index
        return -1

    def fastconv_kernel_name(self, index: int) -> bytes | None:
        return self._rows[index][0] if 0 <= index < len(self._rows) else None

    def fastconv_set_kernel(self, slot: int, index: int) -> None:
        self._kernel[slot] = index

    def fastconv_get_kernel(self, slot: int) -> int:
        own = self._thread.kernel.get(slot, _UNSET)
        return self._kernel.get(slot, _UNSET) if own == _UNSET else own

    def fastconv_scope_kernel(self, slot: int, index: int) -> int:
        before = self._thread.kernel.get(slot, _UNSET)
        self._thread.kernel[slot] = index
        return before

    def fastconv_note_kernel(self, slot: int, index: int) -> None:
        self._thread.last[slot] = index

    def fastconv_last_kernel(self, slot: int) -> bytes | None:
        return self.fastconv_kernel_name(self._thread.last.get(slot, _UNSET))
