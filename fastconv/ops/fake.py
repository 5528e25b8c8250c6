"""Fakes of the public ops, and what compilers have to know of an op besides."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch._library.utils import get_layout_constraint_tag

__all__ = ["register_fake"]


def _keep_in_inductor(op: torch._ops.OpOverload) -> None:
    """Has inductor call the op as it stands.

    That is its way with any op that it does not know; but where the environment says `CI`, it takes
    an entry in torch's table of decompositions, which exporters need, for a mistake of torch's own.
    """
    lowering: Any = sys.modules.get("torch._inductor.lowering")
    if lowering is not None and op not in lowering.lowerings:
        tag = get_layout_constraint_tag(op, with_default=True)
        lowering.make_fallback(op, lowering.tag_to_layout_constraint(tag), warn=False)


def register_fake(name: str, fake: Callable[..., Any]) -> None:
    """Registers the fake of `torch.ops.fastconv.<name>`. Inductor runs it before it asks what the op
    becomes.
    """
    op = getattr(torch.ops.fastconv, name).default

    @functools.wraps(fake)
    def run(*args: Any, **kwargs: Any) -> Any:
        _keep_in_inductor(op)
        return fake(*args, **kwargs)

    torch.library.register_fake(f"fastconv::{name}", run)
