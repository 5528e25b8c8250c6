"""One convolution, in the field's letters: the record that tables, tests, benchmarks and logs
share.

Mirrors ``csrc/core/problem.h``: both sides write and read the same text
(``tests/test_problem.py``).
"""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

Direction = Literal["fprop", "dgrad", "wgrad"]
DIRECTIONS: tuple[Direction, ...] = ("fprop", "dgrad", "wgrad")
ELEMENT_SIZE = {"f32": 4, "f64": 8, "bf16": 2, "f16": 2}
LAYOUTS = ("nchw", "nhwc")

_SCALARS = {"n": "N", "c": "C", "d": "D", "h": "H", "w": "W", "k": "K", "t": "T"}
_SCALARS |= {"r": "R", "s": "S", "z": "Z", "p": "P", "q": "Q", "g": "groups"}
_TRIPLES = {"st": ("stride", 1), "pd": ("pad", 0), "dl": ("dilation", 1)}
_FIELD = re.compile(r"([A-Za-z]+)(-?\d{1,9}(?:x-?\d{1,9})*)", re.ASCII)


def output_extent(extent: int, taps: int, stride: int, pad: int, dilation: int) -> int:
    """Outputs along an axis padded by ``pad`` on both sides."""
    span = extent + 2 * pad - (dilation * (taps - 1) + 1)
    return 0 if span < 0 else span // stride + 1


@dataclasses.dataclass(frozen=True)
class ConvProblem:
    """A convolution: ``x[N,C,D,H,W]`` with ``w[K,C/groups,T,R,S]`` gives ``y[N,K,Z,P,Q]``.

    ``Z``, ``P`` and ``Q`` are derived where they are not given (-1); give them for uneven padding.
    1-d and 2-d problems have ``D = T = Z = 1`` and ``pad_d = 0`` (and so for ``H``, ``R``, ``P`` and
    ``pad_h``). Padding may be negative.
    ``dilation`` is torch's: 1 means dense.
    """

    N: int = 1
    C: int = 1
    D: int = 1
    H: int = 1
    W: int = 1
    K: int = 1
    T: int = 1
    R: int = 1
    S: int = 1
    Z: int = -1
    P: int = -1
    Q: int = -1
    stride_d: int = 1
    stride_h: int = 1
    stride_w: int = 1
    pad_d: int = 0
    pad_h: int = 0
    pad_w: int = 0
    dilation_d: int = 1
    dilation_h: int = 1
    dilation_w: int = 1
    groups: int = 1
    dtype: str = "f32"
    x_layout: str = "nhwc"
    y_layout: str = "nhwc"

    def __post_init__(self) -> None:
        self._check()
        for out, extent, taps, axis in (
            ("Z", "D", "T", "d"),
            ("P", "H", "R", "h"),
            ("Q", "W", "S", "w"),
        ):
            if getattr(self, out) == -1:
                object.__setattr__(self, out, self._formula(extent, taps, axis))

    def _formula(self, extent: str, taps: str, axis: str) -> int:
        stride, pad, dilation = (getattr(self, f"{name}_{axis}") for name, _ in _TRIPLES.values())
        return output_extent(getattr(self, extent), getattr(self, taps), stride, pad, dilation)

    def _check(self) -> None:
        least = dict.fromkeys("NCDHWKTRS", 0) | dict.fromkeys("ZPQ", -1) | {"groups": 1}
        least |= {f"{name}_{axis}": 1 for name in ("stride", "dilation") for axis in "dhw"}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {bound}")
        for name in ("C", "K"):
            if getattr(self, name) % self.groups:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it must be divisible by groups = {self.groups}"
                )
        if self.dtype not in ELEMENT_SIZE:
            raise ValueError(
                f"dtype is {self.dtype!r}; it must be one of {', '.join(ELEMENT_SIZE)}"
            )
        for name in ("x_layout", "y_layout"):
            if getattr(self, name) not in LAYOUTS:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be 'nchw' or 'nhwc'")

    @property
    def C_per_group(self) -> int:
        return self.C // self.groups

    @property
    def K_per_group(self) -> int:
        return self.K // self.groups

    @property
    def taps(self) -> int:
        return self.T * self.R * self.S

    @property
    def x_elements(self) -> int:
        return self.N * self.C * self.D * self.H * self.W

    @property
    def w_elements(self) -> int:
        return self.K * self.C_per_group * self.taps

    @property
    def y_elements(self) -> int:
        return self.N * self.K * self.Z * self.P * self.Q

    @property
    def flops(self) -> int:
        """Operations of the direct sums, one direction; padding taps count as well."""
        return 2 * self.y_elements * self.C_per_group * self.taps

    @property
    def bytes(self) -> int:
        """Bytes of the operands, each counted once."""
        return ELEMENT_SIZE[self.dtype] * (self.x_elements + self.w_elements + self.y_elements)

    @property
    def is_2d(self) -> bool:
        """The depth axis carries nothing. A padded axis of extent 1 does: where its one output lies
        in the padding, it is 0.
        """
        return self.D == self.T == self.Z == 1 and self.pad_d == 0

    @property
    def reach(self) -> int:
        """How far the sums may go along an axis, inside the image or not, in pixels: a bound of
        every sum and product of extents, stride, padding and dilation.
        """
        return max(
            self.D + abs(self.pad_d) + self.Z * self.stride_d + self.T * self.dilation_d,
            self.H + abs(self.pad_h) + self.P * self.stride_h + self.R * self.dilation_h,
            self.W + abs(self.pad_w) + self.Q * self.stride_w + self.S * self.dilation_w,
        )

    @property
    def is_depthwise(self) -> bool:
        return self.groups == self.C and self.groups > 1

    def accumulation_depth(self, direction: Direction) -> int:
        """How many products one output of ``direction`` sums."""
        if direction == "fprop":
            return self.C_per_group * self.taps
        if direction == "dgrad":
            return self.K_per_group * self.taps
        return self.N * self.Z * self.P * self.Q

    def replace(self, **changes: int | str) -> ConvProblem:
        """A copy with other fields. Outputs stay as they are unless given (-1 derives them anew)."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def encode(self) -> str:
        """``n2_c64_h56w56_k64_r3s3_st1_pd1_dl1_g1``; what has its default is left out at the end."""
        depth = not self.is_2d or self.stride_d != 1 or self.dilation_d != 1
        parts = [
            f"n{self.N}",
            f"c{self.C}",
            (f"d{self.D}" if depth else "") + f"h{self.H}w{self.W}",
            f"k{self.K}",
            (f"t{self.T}" if depth else "") + f"r{self.R}s{self.S}",
        ]
        for key, (name, _) in _TRIPLES.items():
            d, h, w = (getattr(self, f"{name}_{axis}") for axis in "dhw")
            if depth and not d == h == w:
                parts.append(f"{key}{d}x{h}x{w}")
            else:
                parts.append(f"{key}{h}" if h == w else f"{key}{h}x{w}")
        parts.append(f"g{self.groups}")
        derived = tuple(
            self._formula(*axis) for axis in (("D", "T", "d"), ("H", "R", "h"), ("W", "S", "w"))
        )
        if derived != (self.Z, self.P, self.Q):
            parts.append((f"z{self.Z}" if depth else "") + f"p{self.P}q{self.Q}")
        if self.dtype != "f32":
            parts.append(self.dtype)
        if self.x_layout != self.y_layout:
            parts.append(f"{self.x_layout}2{self.y_layout}")
        elif self.x_layout == "nchw":
            parts.append("nchw")
        return "_".join(parts)

    __str__ = encode

    @classmethod
    def decode(cls, text: str) -> ConvProblem:
        """Reads what ``encode`` wrote.

        Raises:
            ValueError: naming the part that could not be read.
        """
        values: dict[str, int | str] = {}
        for part in text.split("_"):
            if part in ELEMENT_SIZE:
                values["dtype"] = part
            elif part in LAYOUTS:
                values["x_layout"] = values["y_layout"] = part
            elif part in ("nchw2nhwc", "nhwc2nchw"):
                values["x_layout"], values["y_layout"] = part.split("2")
            else:
                _decode_numbers(part, text, values)
        outputs = values.keys() & {"Z", "P", "Q"}
        for name in "ZPQ" if outputs else "":
            if int(values.setdefault(name, 1)) < 0:
                raise ValueError(f"{name} is {values[name]}; it must be at least 0")
        return cls(**values)  # type: ignore[arg-type]


def _decode_numbers(part: str, text: str, values: dict[str, int | str]) -> None:
    """Reads a part such as ``h56w56`` or ``st2x1`` into ``values``."""
    fields = _FIELD.findall(part)
    if not fields or "".join(key + numbers for key, numbers in fields) != part:
        raise ValueError(f"cannot read problem part {part!r}")
    for key, numbers in fields:
        given = [int(number) for number in numbers.split("x")]
        if key in _SCALARS and len(given) == 1:
            values[_SCALARS[key]] = given[0]
        elif key in _TRIPLES and len(given) <= 3:
            name, rest = _TRIPLES[key]
            has_depth = values.keys() & {"D", "T"}
            values[f"{name}_w"] = given[-1]
            values[f"{name}_h"] = given[-2] if len(given) >= 2 else given[0]
            values[f"{name}_d"] = given[0] if len(given) == 3 or has_depth else rest
        else:
            raise ValueError(f"unknown key {key!r} in problem {text!r}")
