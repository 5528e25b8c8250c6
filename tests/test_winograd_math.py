"""F(2,3) and F(4,3) in exact fractions: the matrices of docs/winograd.md compute a convolution."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

Matrix = npt.NDArray[np.object_]
PAGE = Path(__file__).resolve().parents[1] / "docs" / "winograd.md"


def matrices(m: int) -> tuple[Matrix, Matrix, Matrix]:
    """(A transposed, G, B transposed) of F(m,3), read from the page."""
    section = PAGE.read_text(encoding="utf-8").split(f"## F({m},3)")[1].split("\n## ")[0]
    found = []
    for name in ("At", "G", "Bt"):
        match = re.search(rf"{name} =\n((?: .+\n)+)", section)
        assert match, name
        rows = [[Fraction(word) for word in line.split()] for line in match[1].splitlines()]
        found.append(np.array(rows, dtype=object))
    return found[0], found[1], found[2]


def correlate(d: Matrix, g: Matrix, m: int) -> Matrix:
    return np.array(
        [
            [sum(d[i + r, j + s] * g[r, s] for r in range(3) for s in range(3)) for j in range(m)]
            for i in range(m)
        ],
        dtype=object,
    )


@pytest.mark.parametrize("m", [2, 4])
def test_basis(m: int) -> None:
    """The identity is bilinear: it holds for all inputs if it holds for every pair of unit inputs."""
    At, G, Bt = matrices(m)
    n = m + 2
    assert At.shape == (m, n)
    assert G.shape == (n, 3)
    assert Bt.shape == (n, n)
    for i in range(n):
        for r in range(3):
            d, g = (
                np.array([Fraction(k == i) for k in range(n)]),
                np.array([Fraction(k == r) for k in range(3)]),
            )
            want = [sum(d[o + s] * g[s] for s in range(3)) for o in range(m)]
            assert list(At @ ((G @ g) * (Bt @ d))) == want


@pytest.mark.parametrize("m", [2, 4])
def test_two_dimensions(m: int) -> None:
    At, G, Bt = matrices(m)
    random = np.random.default_rng(0)
    d = np.array(
        [[Fraction(int(v)) for v in row] for row in random.integers(-9, 9, (m + 2, m + 2))],
        dtype=object,
    )
    g = np.array(
        [[Fraction(int(v)) for v in row] for row in random.integers(-9, 9, (3, 3))], dtype=object
    )
    have = At @ ((G @ g @ G.T) * (Bt @ d @ Bt.T)) @ At.T
    assert (have == correlate(d, g, m)).all()


def test_products_saved() -> None:
    """Products per output: direct 9, F(2x2) 4, F(4x4) 2.25."""
    assert [Fraction((m + 2) ** 2, m * m) for m in (2, 4)] == [4, Fraction(9, 4)]
