"""Tables from a result: for people. The losses are named, not averaged away."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable
from typing import Any

from rich.table import Table
from rich.text import Text

from fastconv.bench import tables, workloads
from fastconv.bench.peers import COMPILE, ENGINES
from fastconv.bench.timing import FOREIGN_CORES, SPREAD

Row = dict[str, Any]
REGIMES = {
    "packed": "weights packed once",
    "compared": "weights packed once and compared on every call",
    "unpacked": "weights packed on every call",
}


def geometric_mean(values: Iterable[float]) -> float:
    """NaN of nothing."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


@dataclasses.dataclass(frozen=True)
class Summary:
    """Of some layers' ratios, another's time over ours."""

    layers: int
    mean: float
    losses: int
    worst: float
    worst_layer: str

    def __str__(self) -> str:
        losses = f"{self.losses} loss" + ("" if self.losses == 1 else "es")
        return (
            f"geometric mean {self.mean:.2f}x over {self.layers} layers; {losses}; "
            f"worst {self.worst:.2f}x ({self.worst_layer})"
        )


def summary(rows: list[Row], key: str = "ratio") -> Summary:
    """``rows`` is not empty. A loss is a ratio below 1.

    Args:
        key: ``"ratio"`` to torch's best path, or ``"ratio_all"`` to the best of all peers.
    """
    worst = min(rows, key=lambda row: row[key])
    ratios = [row[key] for row in rows]
    losses = sum(ratio < 1 for ratio in ratios)
    return Summary(len(rows), geometric_mean(ratios), losses, worst[key], worst["layer"])


def short_kernel(name: str) -> str:
    """``conv_fprop_direct_nhwc_avx512`` without what the table says elsewhere."""
    parts = [re.sub(r"^[a-z]+_[a-z]+_", "", part) for part in name.split("+")]
    return parts[0] if len(set(parts)) == 1 else " + ".join(parts)


def engines_of(rows: list[Row]) -> list[str]:
    """The engines that took part in a layer at least."""
    return [name for name in ENGINES if any(name in row["peers_us"] for row in rows)]


def _over(row: Row, peer: str) -> Text:
    us = row["peers_us"].get(peer)
    if us is None:
        return Text("-")
    return tables.loss(f"{us / row['us_p50']:.2f}", us < row["us_p50"])


def layer_table(rows: list[Row]) -> Table:
    """One line a layer: our time, the best of torch's paths, and of each engine its time over ours.

    ``?`` marks a measurement that stayed in doubt.
    """
    engines = engines_of(rows)
    header = ["layer", "kernel", "torch's best", "µs", "GFLOP/s", "% peak", "torch µs", "ratio"]
    body = []
    for row in rows:
        percent, is_loss = row["percent_of_peak"], row["ratio"] < 1
        ratio = f"{row['ratio']:.2f}" + " loss" * is_loss + " ?" * row["in_doubt"]
        cells: list[str | Text] = [
            row["layer"] + (f" *{row['count']}" if row["count"] > 1 else ""),
            short_kernel(row["kernel"]),
            row["best_peer"],
            f"{row['us_p50']:.1f}",
            f"{row['gflops']:.1f}",
            "-" if percent is None else f"{percent:.0f}",
            f"{row['best_peer_us']:.1f}",
            tables.loss(ratio, is_loss),
        ]
        body.append(cells + [_over(row, name) for name in engines])
    return tables.table([*header, *(f"/ {name}" for name in engines)], body, left=3)


def set_table(rows: list[Row]) -> Table:
    """One line a set: geometric mean, losses, worst; and a network's convolutions in milliseconds."""
    header = ["set", "worst layer", "layers", "mean ratio", "losses", "worst", "ms", "torch ms"]
    body = []
    for name in dict.fromkeys(row["set"] for row in rows):
        own = [row for row in rows if row["set"] == name]
        s = summary(own)
        ms, peer_ms = (
            sum(row[key] * row["count"] for row in own) / 1e3 for key in ("us_p50", "best_peer_us")
        )
        numbers = [f"{s.layers}", f"{s.mean:.2f}", f"{s.losses}", f"{s.worst:.2f}"]
        body.append([name, s.worst_layer, *numbers, f"{ms:.2f}", f"{peer_ms:.2f}"])
    return tables.table(header, body, left=2)


def goal_table(rows: list[Row]) -> Table | None:
    """The figures to reach, for the layers present; None where there are none of theirs."""
    body: list[list[str | Text]] = []
    for goal in workloads.goals():
        own = [row for row in rows if re.match(goal.pattern, row["layer"])]
        if not own:
            continue
        s = summary(own)
        bounds = {"mean": goal.mean, "least": goal.least}
        wanted = ", ".join(f"{name} {bound}" for name, bound in bounds.items() if bound is not None)
        reached = s.mean >= (goal.mean or 0) and s.worst >= (goal.least or 0)
        verdict = tables.loss("yes" if reached else "NO", not reached)
        body.append([goal.text, wanted, verdict, f"{s.mean:.2f}", f"{s.worst:.2f}"])
    header = ["figure", "wanted", "reached", "mean", "worst"]
    return tables.table(header, body, left=3) if body else None


def head(result: dict[str, Any]) -> str:
    """What was measured with what."""
    machine, versions, settings = result["machine"], result["versions"], result["settings"]
    peak = machine["fma_peak_gflops"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    lines = [
        f"{machine['cpu']}, {machine.get('isa', 'no native kernels')}, {machine['threads']} threads, "
        + (f"measured peak {peak:.0f} GFLOP/s" if peak else "peak not measured"),
        f"{named}; commit {result['commit'] or 'unknown'}",
        f"{settings['dtype']}; inference with {REGIMES[settings['regime']]}; "
        "ratio = time of torch's best path over fastconv's, / NAME = that engine's",
    ]
    left_out = {
        name: reason for name, reason in result["engines_left_out"].items() if "asked" not in reason
    }
    return "\n".join(lines + [f"without {name}: {reason}" for name, reason in left_out.items()])


def verdicts(rows: list[Row]) -> list[str]:
    """What it comes to, beside torch's best path and beside the best of all."""
    lines = [f"beside torch's best path: {summary(rows)}"]
    if engines := [name for name in engines_of(rows) if name != COMPILE]:
        who = f"beside the best of all, {', '.join(engines)} too"
        lines.append(f"{who}: {summary(rows, 'ratio_all')}")
    return lines


def doubts(rows: list[Row]) -> list[str]:
    """What was measured again, and what stayed in doubt."""
    lines = []
    if again := sum(row["attempts"] > 1 for row in rows):
        lines.append(f"measured again: {again} of {len(rows)} layers")
    if doubtful := [row for row in rows if row["in_doubt"]]:
        busy = max(row["foreign_cores"] for row in doubtful)
        spread = max(row["spread"] for row in doubtful)
        lines.append(
            f"in doubt (?): {len(doubtful)} of {len(rows)}; other processes used up to {busy:.1f} cores "
            f"(at most {FOREIGN_CORES} are passed over), times spread by up to {spread:.2f} (at most {SPREAD}): "
            "repeat on a quiet machine"
        )
    return lines


def render(result: dict[str, Any]) -> tables.Blocks:
    """The whole report."""
    rows = result["rows"]
    tail = "\n".join(verdicts(rows) + doubts(rows))
    blocks: tables.Blocks = [head(result), layer_table(rows), set_table(rows)]
    goals = goal_table(rows)
    return [*blocks, tail] if goals is None else [*blocks, goals, tail]
