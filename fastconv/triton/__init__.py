"""The conv family in Triton: a file a kernel, its rows in the order of choice.

Importing this package needs triton; `fastconv.registry` asks `fastconv._triton` first.
"""

from __future__ import annotations

import importlib
import pkgutil

from fastconv.triton.row import Args, Config, Row

__all__ = ["ROWS", "Args", "Config", "Row"]

#: Best first, in every direction that has the algorithm: `<algorithm>_<layout>` of a row's name.
ORDER = (
    "depthwise_nhwc", "depthwise_nchw", "grouped_tf32_nhwc", "grouped_nhwc", "pointwise_tf32_nhwc",
    "pointwise_nhwc", "igemm_tf32_nhwc", "winograd_f2_nhwc", "igemm_nhwc", "direct_nhwc",
    "im2col_tf32_nhwc", "im2col_nhwc",
)  # fmt: skip


def _rank(row: Row) -> tuple[int, int]:
    kind = row.name.removeprefix(f"conv_{row.direction}_").removesuffix("_triton")
    return ("fprop", "dgrad", "wgrad").index(row.direction), ORDER.index(kind)


def _load() -> tuple[Row, ...]:
    found: list[Row] = []
    for module in pkgutil.iter_modules(__path__):
        if module.name.startswith(("fprop_", "dgrad_", "wgrad_")):
            found += importlib.import_module(f"{__name__}.{module.name}").ROWS
    return tuple(sorted(found, key=_rank))


ROWS = _load()
