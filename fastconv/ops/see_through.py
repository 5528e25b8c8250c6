"""Ops that a compiler sees through: `torch.library.triton_op` for a function and a schema's text."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["see_through"]

#: What torch makes of each type when it reads a schema off a function's annotations.
_ANNOTATIONS: dict[str, Any] = {
    "Tensor": Tensor,
    "List[int]": Sequence[int],
    "bool": bool,
    "Optional[int]": int | None,
    "str": str,
}


def _signature(schema: str) -> inspect.Signature:
    """That of a function whose annotations mean `schema`; a list has no default."""
    parsed = torch._C.parse_schema(f"op{schema}")
    parameters = []
    for argument in parsed.arguments:
        given = argument.has_default_value() and not isinstance(argument.default_value, list)
        parameters.append(
            inspect.Parameter(
                argument.name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=argument.default_value if given else inspect.Parameter.empty,
                annotation=_ANNOTATIONS[str(argument.type)],
            )
        )
    many = len(parsed.returns) > 1
    result = tuple[(Tensor,) * len(parsed.returns)] if many else Tensor  # type: ignore[misc]
    return inspect.Signature(parameters, return_annotation=result)


def see_through(name: str, function: Callable[..., Any], schema: str) -> Any:
    """Registers `fastconv::triton_<name>`, which runs `function`: in a compiler's graph Triton's
    launches and torch's ops stand in its place.
    """

    def run(*args: Any) -> Any:
        return function(*args)

    run.__signature__ = _signature(schema)  # type: ignore[attr-defined]
    return torch.library.triton_op(f"fastconv::triton_{name}", run, mutates_args=())
