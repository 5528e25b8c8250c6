"""Who takes part: each peer turns a layer into a call that is timed."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from typing import Any

from fastconv.bench.part import REGIMES, Operands, Part, Peer, Prepared, Regime, Task
from fastconv.bench.timing import Scope

__all__ = [
    "ALL",
    "COMPILE",
    "ENGINES",
    "NONE",
    "OURS",
    "REGIMES",
    "WITH_GRADIENTS",
    "Engine",
    "Peer",
    "Prepared",
    "Regime",
    "field",
    "take_part",
]

OURS = "fastconv"


@dataclasses.dataclass(frozen=True)
class Engine:
    """A peer beside torch's eager paths: for inference in float32, with its weights laid out once.

    Attributes:
        package: what is to be installed, and whose version counts.
        module: exports ``prepare``, and ``why_not`` where more than the package is needed.
    """

    package: str
    runtime: str
    module: str

    def load(self) -> Any:
        return importlib.import_module(self.module)

    @property
    def version(self) -> str | None:
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None

    def why_not(self) -> str | None:
        """Why it cannot take part on this machine; None where it can."""
        if importlib.util.find_spec(self.package) is None:
            return f"it is not installed: pip install {self.package}"
        reason: str | None = getattr(self.load(), "why_not", lambda: None)()
        return reason


COMPILE = "torch.compile"
ENGINES = {
    COMPILE: Engine("torch", "torch", "fastconv.bench.peer_compile"),
    "onnxruntime": Engine("onnxruntime", "onnxruntime", "fastconv.bench.peer_onnxruntime"),
    "openvino": Engine("openvino", "openvino", "fastconv.bench.peer_openvino"),
    "ncnn": Engine("ncnn", "ncnn", "fastconv.bench.peer_ncnn"),
}
#: Words for several engines: those that can take part here, and none.
ALL, NONE = "all", "none"


def take_part(names: list[str]) -> dict[str, str | None]:
    """Of every engine why it does not take part; None for those that do.

    Args:
        names: of engines, or ``["all"]``, or ``["none"]``.

    Raises:
        ValueError: for a name that is no engine's.
        ImportError: for an engine asked for by name that cannot take part.
    """
    if names == [NONE]:
        return dict.fromkeys(ENGINES, "it was not asked for")
    if names == [ALL]:
        return {name: engine.why_not() for name, engine in ENGINES.items()}
    for name in names:
        if name not in ENGINES:
            known = ", ".join([*ENGINES, ALL, NONE])
            raise ValueError(f"peers has {name!r}; it must be a list of {known}")
        if reason := ENGINES[name].why_not():
            raise ImportError(f"peers has {name!r}, but {reason}")
    return {name: None if name in names else "it was not asked for" for name in ENGINES}


def _engine(name: str, part: Part) -> Peer:
    """An engine as a peer on a family's layers."""
    engine = ENGINES[name]

    def make(operands: Operands, task: Task) -> Prepared | str:
        if task != "fprop" or operands.problem.dtype != "f32":
            return "inference in float32 alone"
        prepare: Callable[..., Prepared | str] = engine.load().prepare
        if name == COMPILE:
            return prepare(*part.module(operands))
        layer = part.node(operands)
        return layer if isinstance(layer, str) else prepare(layer)

    return Peer(name, engine.runtime, make)


def field(part: Part, task: Task, regime: Regime, engines: list[str]) -> list[Peer]:
    """fastconv first, then torch's own paths, then engines: these lay weights out once, and have
    no part where that is counted.
    """
    others = engines if task == "fprop" and regime != "unpacked" else []
    return [*part.field(task, regime), *(_engine(name, part) for name in others)]


#: The scope of training: gradients are on.
WITH_GRADIENTS: Scope = contextlib.nullcontext
