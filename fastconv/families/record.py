"""What a family of kernels is to everything that serves any family: checks, gate, benchmarks, tuning,
tables.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fastconv.problem_text import Problem

__all__ = ["Call", "Family", "Kind", "Operand", "Shapes", "Side", "epilogue"]

#: How an operand lies: an activation [N, channels, ...] dense in the problem's layout; a weight by
#: strides of its own; one number of the sums' type for each channel of a side; whole numbers that lie
#: as an activation and say which of its inputs each output was.
Kind = Literal["activation", "weight", "channels", "index"]
Side = Literal["x", "y"]
Array = npt.NDArray[np.float64]
Call = Callable[[], Tensor]


@dataclasses.dataclass(frozen=True)
class Operand:
    """One operand of a direction, as ``csrc/core/operand.h`` has it.

    Attributes:
        name: in native calls and in Python; "out" is what the direction computes.
        side: of which activation it has the extents, or the channels; not of a weight.
    """

    name: str
    kind: Kind
    side: Side = "x"
    written: bool = False
    optional: bool = False

    def extents(self, p: Problem) -> tuple[int, ...]:
        """[N, channels, depth, height, width], [K, C/groups, T, R, S] or [channels]."""
        if self.kind == "weight":
            return p.weight_extents
        extents = p.extents(self.side)
        return extents[1:2] if self.kind == "channels" else extents


def epilogue(side: Side) -> tuple[Operand, ...]:
    """The operands of ``act(scale * sums + shift + residual)`` on an output of that side."""
    return (
        Operand("scale", "channels", side, optional=True),
        Operand("shift", "channels", side, optional=True),
        Operand("residual", "activation", side, optional=True),
    )


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Shape files of ``fastconv/testing/shapes``; "" where a family has none.

    Attributes:
        basic: what every kernel is tested on.
        caches: more for the CPU's kernels, which go other ways where operands outgrow its caches.
        cuda: what every CUDA kernel is tested on, small, for they run on the CPU.
        triton: the layers that Triton's kernels are compiled for ahead of time, by algorithm.
    """

    basic: str
    caches: str = ""
    cuda: str = ""
    triton: str = ""


@dataclasses.dataclass(frozen=True)
class Family:
    """A family of kernels.

    Attributes:
        name: what its rows begin with: ``<name>_<direction>_<algorithm>[_<layout>]_<target>``.
        problem: its record, which reads and writes the text.
        operands: of each direction, what it reads and writes, in the order of the call.
        oracle: the direction's result without the epilogue, in NumPy and float64, that shares no
            line with the kernels: ``oracle(p, direction, {name: array})``.
        torch_call: torch's own kernel for the direction, as its autograd calls it, on tensors as
            `fastconv.tensors.drawn` makes them: ``torch_call(p, direction, {name: tensor})``.
        native_call: the same by the op library, on the kernel of that name:
            ``native_call(p, direction, {name: tensor}, kernel)``.
        factors: how many drawn numbers a term of a sum multiplies: the largest term of inputs up to
            ``a`` is ``a**factors``.
        is_exact: whether integer inputs give exact sums in the direction, where nothing overflows.
        why_not_torch: why torch has no kernel for the problem, None where it has.
        shapes: its shape files.
        sets: its layer sets in ``fastconv/bench/sets``, by groups that ``--set`` knows.
        place: the lower, the earlier tuning measures a problem, where time may run out.
        indexed: "i64" or "u8" where the problem has indices of that type, else "".
        indices: the indices beside the result of ``indices(p, {name: array})``, or those that are read.
        has: whether a call of the problem has the operand, which is neither optional nor an index.
    """

    name: str
    problem: type[Problem]
    operands: Mapping[str, tuple[Operand, ...]]
    oracle: Callable[[Any, str, Mapping[str, Array]], Array]
    torch_call: Callable[[Any, str, Mapping[str, Tensor]], Call]
    native_call: Callable[[Any, str, Mapping[str, Tensor], str], Call]
    factors: int
    is_exact: Callable[[Any, str], bool]
    why_not_torch: Callable[[Any], str | None]
    shapes: Shapes
    sets: Mapping[str, tuple[str, ...]]
    place: Callable[[Any], int] = lambda p: 0
    indexed: Callable[[Any], str] = lambda p: ""
    indices: Callable[[Any, Mapping[str, Array]], Any] | None = None
    has: Callable[[Any, Operand], bool] = lambda p, operand: True

    @property
    def directions(self) -> tuple[str, ...]:
        """In the order of the table."""
        return tuple(self.operands)

    def inputs(self, direction: str, p: Problem | None = None) -> tuple[Operand, ...]:
        """What every call of the direction reads, whatever the problem; with one, what it reads for
        that, indices too.
        """
        indexed = p is not None and self.indexed(p)
        return tuple(
            each
            for each in self.operands[direction]
            if not each.written
            and (indexed if each.kind == "index" else not each.optional)
            and (p is None or self.has(p, each))
        )

    def output(self, direction: str) -> Operand:
        """What the direction writes."""
        return next(
            each for each in self.operands[direction] if each.written and each.kind != "index"
        )

    def index_of(self, direction: str, p: Problem) -> Operand | None:
        """The indices that a call of the direction writes where they are asked for."""
        every = (each for each in self.operands[direction] if each.kind == "index" and each.written)
        return next(every, None) if self.indexed(p) else None

    def epilogue(self, direction: str) -> tuple[Operand, ...]:
        """What the direction's sums may be scaled by, shifted by and added to."""
        return tuple(
            each for each in self.operands[direction] if each.optional and each.kind != "index"
        )

    def has_epilogue(self, direction: str) -> bool:
        """Whether the direction's sums may be scaled, shifted, added to and activated."""
        return bool(self.epilogue(direction))

    def drawn(self) -> tuple[Operand, ...]:
        """What the directions read, each once: oracles and torch's calls are given all of it."""
        every = (each for direction in self.operands for each in self.inputs(direction))
        return tuple({each.name: each for each in every}.values())

    def row_names(self) -> re.Pattern[str]:
        """The grammar of its rows' names, with groups direction, algorithm, layout and target."""
        return re.compile(
            rf"{self.name}_(?P<direction>{'|'.join(self.directions)})"
            r"_(?P<algorithm>ref|[a-z0-9]+(?:_[a-z0-9]+)*?)(?:_(?P<layout>nhwc|nchw))?"
            r"(?:_(?P<target>cpu|avx2|avx512|sm80|sm90a|triton))?"
        )
