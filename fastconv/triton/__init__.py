"""The kernels in Triton: a file a kernel, its rows in the order of choice.

Importing this package needs triton; `fastconv.registry` asks `fastconv._triton` first.
"""

from __future__ import annotations

import importlib
import pkgutil

from fastconv import families
from fastconv.triton.row import Args, Config, Row

__all__ = ["ROWS", "Args", "Config", "Row"]

#: Best first, in every direction that has the algorithm: `<algorithm>_<layout>` of a row's name.
ORDER = {
    "conv": (
        "depthwise_nhwc", "depthwise_nchw", "grouped_tf32_nhwc", "grouped_nhwc",
        "pointwise_tf32_nhwc", "pointwise_nhwc", "igemm_tf32_nhwc", "winograd_f2_nhwc",
        "igemm_nhwc", "direct_nhwc", "im2col_tf32_nhwc", "im2col_nhwc",
    ),
    "pool": ("global_nchw", "global_nhwc", "direct_nchw", "direct_nhwc"),
}  # fmt: skip


def _rank(row: Row) -> tuple[int, int, int]:
    kind = row.name.removeprefix(f"{row.family}_{row.direction}_").removesuffix("_triton")
    directions = families.named(row.family).directions
    return (
        list(ORDER).index(row.family),
        directions.index(row.direction),
        ORDER[row.family].index(kind),
    )


def _load() -> tuple[Row, ...]:
    found: list[Row] = []
    for module in pkgutil.iter_modules(__path__):
        if module.name.endswith(("_nhwc", "_nchw")):
            found += importlib.import_module(f"{__name__}.{module.name}").ROWS
    return tuple(sorted(found, key=_rank))


ROWS = _load()
