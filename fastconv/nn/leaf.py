"""How a layer passes for torch's own where torch asks by name."""

from __future__ import annotations

from typing import Any, Self

import torch

__all__ = ["Leaf", "pass_for_torchs"]


def pass_for_torchs(layer: torch.nn.Module) -> None:
    """Has FX take the layer for one of torch's, which it does not look into, by the module of its
    class as the instance tells it. A subclass of somebody else's is looked into, as of torch's.
    """
    kind = type(layer)
    if kind.__module__.startswith("fastconv.nn."):
        theirs = (base.__module__ for base in kind.__mro__)
        layer.__dict__["__module__"] = next(m for m in theirs if m.startswith("torch.nn."))


class Leaf:
    """What keeps FX from looking into a layer."""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        self = super().__new__(cls)
        pass_for_torchs(self)  # type: ignore[arg-type]
        return self
