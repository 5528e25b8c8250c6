"""Tables from a result: for people. The losses are named, not averaged away."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]
EXTRA = ("onnxruntime", "ncnn")


@dataclasses.dataclass(frozen=True)
class Goal:
    """A figure to reach: over the layers that ``pattern`` matches, a geometric mean and a least
    ratio.
    """

    text: str
    pattern: str
    mean: float | None = None
    least: float | None = None


GOALS = (
    Goal("dense 3x3", r"dense3x3\.", 2.5, 1.6),
    Goal("3x3 512@7", r"deep3x3\.", 1.3),
    Goal("dilated 3x3", r"dilated\.", 2.0),
    Goal("1x1", r"pointwise\.", 1.03, 0.97),
    Goal("stem", r"stem\.", 1.05),
    Goal("depthwise", r"depthwise\.", 1.6, 1.1),
    Goal("grouped", r"grouped\.", 2.0),
    Goal("training: depthwise", r"training\.dw", 4.0),
    Goal("training: 3x3", r"training\.3x3", 2.0),
    Goal("training: grouped", r"training\.g32", 2.5),
    Goal("training: 1x1", r"training\.1x1", 1.4),
)


def geometric_mean(values: Iterable[float]) -> float:
    """NaN of nothing."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


@dataclasses.dataclass(frozen=True)
class Summary:
    """Of the ratios "torch's best time over ours" of some layers."""

    layers: int
    mean: float
    losses: int
    worst: float
    worst_layer: str


def summary(rows: list[Row]) -> Summary:
    """``rows`` is not empty. A loss is a ratio below 1."""
    worst = min(rows, key=lambda row: row["ratio"])
    ratios = [row["ratio"] for row in rows]
    losses = sum(ratio < 1 for ratio in ratios)
    return Summary(len(rows), geometric_mean(ratios), losses, worst["ratio"], worst["layer"])


def short_kernel(name: str) -> str:
    """``conv_fprop_direct_nhwc_avx512`` without what the table says elsewhere."""
    parts = [re.sub(r"^conv_(fprop|dgrad|wgrad)_", "", part) for part in name.split("+")]
    return parts[0] if len(set(parts)) == 1 else " + ".join(parts)


def _table(header: list[str], body: list[list[str]], left: int) -> str:
    """Columns padded to their widest cell; the first ``left`` flush left."""
    widths = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        return "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, body)])


def _over(row: Row, peer: str) -> str:
    us = row["peers_us"].get(peer)
    return "-" if us is None else f"{us / row['us_p50']:.2f}"


def layer_table(rows: list[Row]) -> str:
    """One line a layer."""
    extra = [name for name in EXTRA if any(name in row["peers_us"] for row in rows)]
    header = ["layer", "kernel", "torch's best", "µs", "GFLOP/s", "% peak", "torch µs", "ratio"]
    header += [f"over {name}" for name in extra]
    body = []
    for row in rows:
        percent = row["percent_of_peak"]
        cells = [
            row["layer"] + (f" *{row['count']}" if row["count"] > 1 else ""),
            short_kernel(row["kernel"]),
            row["best_peer"],
            f"{row['us_p50']:.1f}",
            f"{row['gflops']:.1f}",
            "-" if percent is None else f"{percent:.0f}",
            f"{row['best_peer_us']:.1f}",
            f"{row['ratio']:.2f}" + ("" if row["ratio"] >= 1 else " loss"),
        ]
        body.append(cells + [_over(row, name) for name in extra])
    return _table(header, body, left=3)


def set_table(rows: list[Row]) -> str:
    """One line a set: geometric mean, losses, worst; and a network's convolutions in milliseconds."""
    header = [
        "set",
        "worst layer",
        "layers",
        "mean ratio",
        "losses",
        "worst",
        "ms",
        "torch ms",
    ]
    body = []
    for name in dict.fromkeys(row["set"] for row in rows):
        own = [row for row in rows if row["set"] == name]
        s = summary(own)
        ms, peer_ms = (
            sum(row[key] * row["count"] for row in own) / 1e3 for key in ("us_p50", "best_peer_us")
        )
        cells = [
            f"{s.layers}",
            f"{s.mean:.2f}",
            f"{s.losses}",
            f"{s.worst:.2f}",
            f"{ms:.2f}",
            f"{peer_ms:.2f}",
        ]
        body.append([name, s.worst_layer, *cells])
    return _table(header, body, left=2)


def goal_table(rows: list[Row]) -> str:
    """The figures to reach, for the layers present; empty where none is."""
    body = []
    for goal in GOALS:
        own = [row for row in rows if re.match(goal.pattern, row["layer"])]
        if not own:
            continue
        s = summary(own)
        wanted = ", ".join(
            text
            for text, bound in (
                (f"mean {goal.mean}", goal.mean),
                (f"least {goal.least}", goal.least),
            )
            if bound is not None
        )
        reached = s.mean >= (goal.mean or 0) and s.worst >= (goal.least or 0)
        body.append(
            [goal.text, wanted, "yes" if reached else "NO", f"{s.mean:.2f}", f"{s.worst:.2f}"]
        )
    return _table(["figure", "wanted", "reached", "mean", "worst"], body, left=3) if body else ""


def render(result: dict[str, Any]) -> str:
    """The whole report."""
    rows, machine, versions = result["rows"], result["machine"], result["versions"]
    peak = machine["fma_peak_gflops"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    regime = (
        "weights packed once"
        if result["settings"]["regime"] == "packed"
        else "weights packed on every call"
    )
    head = [
        f"{machine['cpu']}, {machine.get('isa', 'no native kernels')}, {machine['threads']} threads, "
        + (f"measured peak {peak:.0f} GFLOP/s" if peak else "peak not measured"),
        f"{named}; commit {result['commit'] or 'unknown'}",
        f"{result['settings']['dtype']}; inference with {regime}; ratio = time of torch's best path over fastconv's",
    ]
    s = summary(rows)
    tail = (
        f"geometric mean {s.mean:.2f}x over {s.layers} layers; {s.losses} losses; "
        f"worst {s.worst:.2f}x ({s.worst_layer})"
    )
    busy = max(row["foreign_cores"] for row in rows)
    if busy > 0.1:
        tail += (
            f"\nother processes used up to {busy:.1f} cores meanwhile: repeat on a quiet machine"
        )
    blocks = ["\n".join(head), layer_table(rows), set_table(rows), goal_table(rows), tail]
    return "\n\n".join(block for block in blocks if block)
