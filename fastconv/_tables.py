"""The native kernel tables, one for each family and device: the one place that knows the native
modules `fastconv._core` and `fastconv._cuda_on_cpu`.
"""

from __future__ import annotations

import functools
import importlib
from types import ModuleType
from typing import Any, Literal, Protocol, cast

import numpy.typing as npt

__all__ = ["DEVICES", "Device", "NativeRow", "Table", "built_core", "core", "module", "table"]

#: Whose rows: the processor's, a GPU's, or a GPU's as tests run them, thread by thread on the CPU.
Device = Literal["cpu", "cuda", "cuda_on_cpu"]
DEVICES: tuple[Device, ...] = ("cpu", "cuda", "cuda_on_cpu")
Array = npt.NDArray[Any]


class NativeRow(Protocol):
    """One row of a native table."""

    @property
    def name(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def direction(self) -> str: ...
    @property
    def numerics(self) -> str: ...
    @property
    def algorithm(self) -> str: ...
    @property
    def packs(self) -> bool: ...
    @property
    def machine_reason(self) -> str | None: ...


class Table(Protocol):
    """A family's rows on one device. Those of a GPU are told of it: `capability` and `allow_tf32`.

    Kernels and problems are named by their text. A GPU's rows are listed and asked, not run.
    """

    def rows(self) -> list[NativeRow]: ...
    def directions(self) -> list[str]: ...
    def operands(self, direction: str) -> list[tuple[str, str, bool, bool]]:
        """Of each its name and kind, and whether it is written and may be left out."""
        ...

    def why_not_target(self, kernel: str, capability: int) -> str | None:
        """Why a GPU of that capability does not run the row."""
        ...

    def why_not(self, kernel: str, problem: str, **told: Any) -> str | None: ...
    def why_not_auto(
        self, kernel: str, problem: str, precision: str = "high", **told: Any
    ) -> str | None: ...
    def choose(
        self,
        direction: str,
        problem: str,
        precision: str = "high",
        must_win: bool = False,
        **told: Any,
    ) -> str | None: ...
    def seen_by(self, kernel: str, problem: str) -> str: ...
    def packed_bytes(self, kernel: str, problem: str) -> int: ...
    def workspace_bytes(self, kernel: str, problem: str) -> int: ...
    def pack(self, kernel: str, problem: str, w: Array) -> Array: ...
    def canonical(self, problem: str) -> str: ...
    def squeezed(self, problem: str) -> str:
        """As the problem's own, with axes that carry nothing merged or moved inward."""
        ...

    def run(
        self,
        kernel: str,
        problem: str,
        *,
        direction: str | None = None,
        activation: str = "none",
        packed: Array | None = None,
        **operands: Array,
    ) -> Array:
        """Runs a kernel on operands by name, and returns "out", which is made where it is not given.
        The kernel "auto" is the direction's choice.
        """
        ...


def core() -> ModuleType | None:
    """The native module ``fastconv._core``, or None where it was not built."""
    try:
        return importlib.import_module("fastconv._core")
    except ImportError:
        return None


def built_core() -> ModuleType:
    """As ``core``.

    Raises:
        RuntimeError: where the native module was not built.
    """
    module = core()
    if module is None:
        raise RuntimeError(
            "fastconv was installed without its native kernels (no C++ compiler was found); "
            "install a compiler and run `pip install --force-reinstall --no-deps fastconv`"
        )
    return module


def module(device: Device = "cpu") -> ModuleType:
    """The native module that has the device's tables.

    Raises:
        RuntimeError: where it was not built.
    """
    if device == "cpu":
        return built_core()
    if device == "cuda":
        return cast("ModuleType", built_core().cuda)
    try:
        return importlib.import_module("fastconv._cuda_on_cpu")
    except ImportError:
        raise RuntimeError(
            "fastconv._cuda_on_cpu was not built: `pip install --editable` builds it, for tests"
        ) from None


@functools.cache
def table(family: str, device: Device = "cpu") -> Table | None:
    """The family's table on the device; None where the native module has none of that family.

    Raises:
        RuntimeError: where the native module was not built.
    """
    return cast("Table | None", getattr(module(device), family, None))
