"""torch.compile with freezing as a peer: Inductor folds the weights in and packs them for oneDNN."""

from __future__ import annotations

import functools
import shutil

import torch

from fastconv.bench.peers import Prepared


def why_not() -> str | None:
    """Why Inductor cannot compile here; None where it can."""
    from torch._inductor import config

    given = config.cpp.cxx
    names = [name for name in (given if isinstance(given, list | tuple) else [given]) if name]
    if any(shutil.which(name.split()[0]) for name in names):
        return None
    return f"it needs a C++ compiler, and {' or '.join(names)} was not found"


def prepare(module: torch.nn.Module, x: torch.Tensor) -> Prepared:
    """``module(x)`` compiled, for calls in inference mode."""
    from torch._inductor import config

    torch._dynamo.reset()  # what was compiled for other layers is neither kept nor counted
    compiled = torch.compile(module)
    # Dynamo, too, asks whether to freeze: given as an option of compile(), it would not be told.
    with config.patch(freezing=True, compile_threads=1), torch.inference_mode():
        compiled(x)
    return Prepared(functools.partial(compiled, x))
