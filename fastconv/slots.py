"""The numbers by which settings are kept: one for each direction of each family.

The op library gives them (csrc/core/row.h), and its stand-in where there is none.
"""

from __future__ import annotations

import functools

from fastconv import _native, families

__all__ = ["direction", "slot"]


def slot(family: str, direction: str) -> int:
    """The number of a family's direction.

    Raises:
        ValueError: where the family has no such direction.
        TypeError: for what is no name of one.
    """
    for what, name in (("family", family), ("direction", direction)):
        if not isinstance(name, str):
            raise TypeError(f"{what} is {name!r}; it must be a name")
    return _slot(family, direction)


@functools.cache
def _slot(family: str, direction: str) -> int:
    directions = families.named(family).directions
    if direction not in directions:
        known = ", ".join(directions)
        raise ValueError(f"direction is {direction!r}; of {family} it must be one of {known}")
    return int(_native.state.fastconv_slot(family.encode(), direction.encode()))


def direction(number: int) -> str:
    """The direction of that number."""
    return next(
        direction
        for family in families.all()
        for direction in family.directions
        if slot(family.name, direction) == number
    )
