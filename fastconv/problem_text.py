"""The text of a problem, and what every family's problem record shares: one machine, driven by each
record's table of fields.

A text is parts joined by ``_``: numbers by their letters (``n2``, ``h56w56``, ``st2x1``) and words
(``bf16``, ``nchw``). C++ writes and reads the same (``tests/test_problem.py``).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral
from typing import Any, ClassVar, Self

from fastconv.words import ELEMENT_SIZE, LAYOUTS

__all__ = [
    "DTYPE",
    "LAYOUT",
    "Extents",
    "Number",
    "Outputs",
    "Part",
    "Problem",
    "Steps",
    "Word",
    "output_extent",
]

_FIELD = re.compile(r"([A-Za-z]+)(-?\d{1,9}(?:x-?\d{1,9})*)", re.ASCII)
#: Input, window and output of each axis, outermost first.
_AXES = (("D", "T", "Z", "d"), ("H", "R", "P", "h"), ("W", "S", "Q", "w"))


def output_extent(extent: int, taps: int, stride: int, pad: int, dilation: int) -> int:
    """Outputs along an axis padded by ``pad`` on both sides."""
    span = extent + 2 * pad - (dilation * (taps - 1) + 1)
    return 0 if span < 0 else span // stride + 1


@dataclasses.dataclass(frozen=True)
class Extents:
    """Fields of one capital letter each, written side by side: ``Extents("DHW")`` is ``d3h5w5``.

    The letter of depth (D, T) is left out of a text that has no depth.
    """

    letters: str
    least: int = 0


@dataclasses.dataclass(frozen=True)
class Number:
    """One field by its own key; one with a `default` is not written where it has it, and one without a `least`
    number may have any.
    """

    key: str
    name: str
    least: int | None
    default: int | None = None


@dataclasses.dataclass(frozen=True)
class Steps:
    """A field an axis (``stride_d``, ``stride_h``, ``stride_w``): ``st2``, ``st2x1``, ``st1x2x2``.

    `rest` is what an axis without a number has; `optional` steps are not written where all are at rest.
    """

    key: str
    name: str
    rest: int
    least: int | None = None
    optional: bool = False


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Z, P and Q, written where the formula does not give them (uneven padding, ceil mode)."""


@dataclasses.dataclass(frozen=True)
class Word:
    """A part that is a word: the fields that each stands for. `default` is not written."""

    choices: Mapping[str, Mapping[str, str | bool]]
    default: str | None = None


DTYPE = Word({name: {"dtype": name} for name in ELEMENT_SIZE}, "f32")
LAYOUT = Word(
    {
        (x if x == y else f"{x}2{y}"): {"x_layout": x, "y_layout": y}
        for x in LAYOUTS
        for y in LAYOUTS
    },
    "nhwc",
)

Part = Extents | Number | Steps | Outputs | Word


class Problem:
    """Base of a family's record, a frozen dataclass with the fields that `PARTS` names.

    Every family's problem has x [N, C, D, H, W], a window of T x R x S taps, and y [N, K, Z, P, Q],
    whose channels are `y_channels`; Z, P and Q of -1 are derived. What a family lacks is 1 or 0.

    Attributes:
        PARTS: the text's parts, in their order.
        MARKS: keys and words of which every text of the family has one, and no other family's.
    """

    PARTS: ClassVar[tuple[Part, ...]]
    MARKS: ClassVar[tuple[str, ...]]

    # What the table says, gathered once.
    _keys: ClassVar[dict[str, str | Steps]]
    _words: ClassVar[dict[str, Mapping[str, str | bool]]]
    _integers: ClassVar[tuple[str, ...]]
    _bounds: ClassVar[tuple[tuple[str, int], ...]]
    _choices: ClassVar[tuple[tuple[str, tuple[str | bool, ...]], ...]]
    _resting: ClassVar[tuple[tuple[str, int], ...]]

    N: int
    C: int
    D: int
    H: int
    W: int
    pad_d: int
    dtype: str
    x_layout: str
    y_layout: str

    def __init_subclass__(cls) -> None:
        cls._keys, cls._words = _keys(cls.PARTS), _words(cls.PARTS)
        cls._integers = tuple(name for name, kind in cls.__annotations__.items() if kind == "int")
        cls._bounds = tuple(bound for part in cls.PARTS for bound in _least(part))
        cls._choices = _choices(cls._words)
        cls._resting = _resting(cls.PARTS)

    def __post_init__(self) -> None:
        self.check()
        for extent, taps, out, axis in _AXES:
            if getattr(self, out) == -1:
                object.__setattr__(self, out, self._formula(extent, taps, axis))

    def _formula(self, extent: str, taps: str, axis: str) -> int:
        stride, pad, dilation = (
            getattr(self, f"{name}_{axis}") for name in ("stride", "pad", "dilation")
        )
        return output_extent(getattr(self, extent), getattr(self, taps), stride, pad, dilation)

    def check(self) -> None:
        """Raises ValueError, TypeError naming the field that cannot be what it is."""
        for name in self._integers:
            value = getattr(self, name)
            if type(value) is not int and not isinstance(value, Integral):
                raise TypeError(f"{name} is {value!r}; it must be an integer")
        for name, least in self._bounds:
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        for name, known in self._choices:
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(map(str, known))}"
                )

    # What checks, tolerances, benchmarks and plans ask of any problem.

    @property
    def y_channels(self) -> int:
        """Channels of y."""
        raise NotImplementedError

    @property
    def flops(self) -> int:
        """Operations of one direction; taps in the padding count as well."""
        raise NotImplementedError

    @property
    def bytes(self) -> int:
        """Bytes of the operands, each counted once."""
        raise NotImplementedError

    @property
    def weight_extents(self) -> tuple[int, ...]:
        """The weight [K, C/groups, T, R, S]; of no element where the family has none."""
        return (0, 0, 0, 0, 0)

    @property
    def transform_depth(self) -> int:
        """Products that a transformed space sums (`fastconv.words.why_too_inexact`)."""
        return 0

    def accumulation_depth(self, direction: str) -> int:
        """How many terms one output of ``direction`` sums."""
        raise NotImplementedError

    def extents(self, side: str) -> tuple[int, ...]:
        """The extents of the activation "x" [N, C, D, H, W] or "y" [N, K, Z, P, Q]."""
        if side == "x":
            return self.N, self.C, self.D, self.H, self.W
        return (self.N, self.y_channels, *(getattr(self, out) for out in "ZPQ"))

    def layout(self, side: str) -> str:
        """How that activation lies."""
        return self.x_layout if side == "x" else self.y_layout

    @property
    def is_2d(self) -> bool:
        """The depth axis carries nothing. A padded axis of extent 1 does: where its one output lies
        in the padding, it is 0.
        """
        return all(getattr(self, name) == 1 for name in "DTZ") and self.pad_d == 0

    @property
    def reach(self) -> int:
        """How far a window may go along an axis, inside the image or not, in pixels: a bound of
        every sum and product of extents, stride, padding and dilation.
        """
        found = 0
        for extent, taps, out, axis in _AXES:
            stride, pad, dilation = (
                getattr(self, f"{name}_{axis}") for name in ("stride", "pad", "dilation")
            )
            inputs, outputs = getattr(self, extent), getattr(self, out)
            found = max(
                found, inputs + abs(pad) + outputs * stride + getattr(self, taps) * dilation
            )
        return found

    def is_derived(self) -> bool:
        """Whether Z, P and Q are what the formula gives."""
        return all(
            getattr(self, out) == self._formula(extent, taps, axis)
            for extent, taps, out, axis in _AXES
        )

    def has_depth(self) -> bool:
        """Whether the outermost axis is more than one plane that is read as it is."""
        return any(getattr(self, name) != rest for name, rest in self._resting)

    def squeezed(self) -> tuple[Self, tuple[int, int, int]]:
        """The same work with axes that carry nothing merged or moved inward, where activations lie as
        they did, and which of the weight's axes T, R and S (0, 1 and 2) each of the new ones is.
        """
        return self, (0, 1, 2)

    def replace(self, **changes: Any) -> Self:
        """A copy with other fields. Outputs stay as they are unless given (-1 derives them anew)."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def encode(self) -> str:
        """The problem's text; parts that hold what is not written are left out."""
        deep = self.has_depth()
        return "_".join(text for part in self.PARTS if (text := _write(part, self, deep)))

    __str__ = encode

    @classmethod
    def decode(cls, text: str) -> Self:
        """Reads what ``encode`` wrote.

        Raises:
            ValueError: naming the part that could not be read.
            TypeError: for what is no text.
        """
        if not isinstance(text, str):
            raise TypeError(f"a problem's text is {text!r}; it must be a string")
        values: dict[str, Any] = {}
        seen: set[str] = set()  # keys, and the fields of words
        for part in text.split("_"):
            if part in cls._words:
                _only_once(part, cls._words[part], seen, text)
                values.update(cls._words[part])
                continue
            for key, numbers in _numbers(part):
                _only_once(key, (key,), seen, text)
                _read(cls._keys.get(key), key, numbers, values, text)
        for name in "ZPQ" if values.keys() & {"Z", "P", "Q"} else "":
            if values.setdefault(name, 1) < 0:
                raise ValueError(f"{name} is {values[name]}; it must be at least 0")
        return cls(**values)

    @classmethod
    def is_text(cls, text: str) -> bool:
        """Whether the text has one of `MARKS`: the family's own, readable or not."""
        for part in text.split("_"):
            if part in cls.MARKS or any(key in cls.MARKS for key, _ in _FIELD.findall(part)):
                return True
        return False


def _numbers(part: str) -> list[tuple[str, list[int]]]:
    """The fields of a part such as ``h56w56`` or ``st2x1``."""
    fields = _FIELD.findall(part)
    if not fields or "".join(key + numbers for key, numbers in fields) != part:
        raise ValueError(f"cannot read problem part {part!r}")
    return [(key, [int(number) for number in numbers.split("x")]) for key, numbers in fields]


def _only_once(name: str, says: Iterable[str], seen: set[str], text: str) -> None:
    if not seen.isdisjoint(says):
        raise ValueError(f"{name!r} says again in problem {text!r} what was said")
    seen.update(says)


def _read(
    field: str | Steps | None, key: str, numbers: list[int], values: dict[str, Any], text: str
) -> None:
    """Puts a key's numbers into `values`."""
    if isinstance(field, str) and len(numbers) == 1:
        values[field] = numbers[0]
    elif isinstance(field, Steps) and len(numbers) <= 3:
        has_depth = values.keys() & {"D", "T"}
        values[f"{field.name}_w"] = numbers[-1]
        values[f"{field.name}_h"] = numbers[-2] if len(numbers) >= 2 else numbers[0]
        values[f"{field.name}_d"] = numbers[0] if len(numbers) == 3 or has_depth else field.rest
    else:
        raise ValueError(f"unknown key {key!r} in problem {text!r}")


def _write(part: Part, p: Problem, deep: bool) -> str:
    """A part's text; empty where it is not written."""
    if isinstance(part, Extents):
        letters = part.letters if deep or len(part.letters) < 3 else part.letters[1:]
        return "".join(f"{letter.lower()}{getattr(p, letter)}" for letter in letters)
    if isinstance(part, Number):
        value = getattr(p, part.name)
        return "" if value == part.default else f"{part.key}{value}"
    if isinstance(part, Steps):
        d, h, w = (getattr(p, f"{part.name}_{axis}") for axis in "dhw")
        if part.optional and d == h == w == part.rest:
            return ""
        if deep and not d == h == w:
            return f"{part.key}{d}x{h}x{w}"
        return f"{part.key}{h}" if h == w else f"{part.key}{h}x{w}"
    if isinstance(part, Outputs):
        return "" if p.is_derived() else _write(Extents("ZPQ"), p, deep)
    word = next(
        word
        for word, fields in part.choices.items()
        if all(getattr(p, name) == value for name, value in fields.items())
    )
    return "" if word == part.default else word


def _keys(parts: tuple[Part, ...]) -> dict[str, str | Steps]:
    """By its key, the field of a number or the steps of three."""
    found: dict[str, str | Steps] = {}
    for part in parts:
        if isinstance(part, Extents | Outputs):
            letters = part.letters if isinstance(part, Extents) else "ZPQ"
            found |= {letter.lower(): letter for letter in letters}
        elif isinstance(part, Number):
            found[part.key] = part.name
        elif isinstance(part, Steps):
            found[part.key] = part
    return found


def _words(parts: tuple[Part, ...]) -> dict[str, Mapping[str, str | bool]]:
    """The fields that each word stands for."""
    words = [part for part in parts if isinstance(part, Word)]
    return {word: fields for part in words for word, fields in part.choices.items()}


def _resting(parts: tuple[Part, ...]) -> tuple[tuple[str, int], ...]:
    """What the fields of depth hold where there is none."""
    steps = [(f"{part.name}_d", part.rest) for part in parts if isinstance(part, Steps)]
    return (("D", 1), ("T", 1), ("Z", 1), *steps)


def _least(part: Part) -> Iterator[tuple[str, int]]:
    """The least that each number of a part may be."""
    if isinstance(part, Extents):
        yield from ((letter, part.least) for letter in part.letters)
    elif isinstance(part, Outputs):
        yield from ((letter, -1) for letter in "ZPQ")
    elif isinstance(part, Number) and part.least is not None:
        yield part.name, part.least
    elif isinstance(part, Steps) and part.least is not None:
        yield from ((f"{part.name}_{axis}", part.least) for axis in "dhw")


def _choices(
    words: Mapping[str, Mapping[str, str | bool]],
) -> tuple[tuple[str, tuple[str | bool, ...]], ...]:
    """What each field that words stand for may be."""
    found: dict[str, dict[str | bool, None]] = {}
    for fields in words.values():
        for name, value in fields.items():
            found.setdefault(name, {})[value] = None
    return tuple((name, tuple(values)) for name, values in found.items())
