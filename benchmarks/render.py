"""Writes the tables of README.md and docs/figures.md from the JSON in results/.

``--check`` writes nothing, and fails where they are stale.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fastconv.bench import report, workloads

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- figures: benchmarks/render.py -->", "<!-- end of figures -->"
#: What README shows of each machine.
SHOWN = "packed-2t.json"
NOTHING = "No result is committed yet: `make results` takes one."

Result = dict[str, Any]


def markdown(header: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    """A table; all but the first column flush right."""
    cells = list(header)
    rule = ["---", *("--:" for _ in cells[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (cells, rule, *body))


def load(file: Path) -> Result:
    """A result; older ones do not say their ratio to the best of all peers."""
    result: Result = json.loads(file.read_text(encoding="utf-8"))
    for row in result.get("rows", ()):
        row.setdefault("ratio_all", min(row["peers_us"].values()) / row["us_p50"])
    return result


def short(machine: str) -> str:
    """``amd-epyc-family-25-avx512-2-cores`` for the head of a column."""
    return re.sub(r"-family-(\d+)-(\w+)-(\d+)-cores", r" \1 \2", machine).replace("-", " ")


def cell(rows: list[report.Row], key: str = "ratio") -> str:
    """``mean / worst / losses``."""
    if not rows:
        return ""
    s = report.summary(rows, key)
    return f"{s.mean:.2f} / {s.worst:.2f} / {s.losses}"


def overview(results: dict[str, Result]) -> str:
    """Sets as rows, machines as columns."""
    if not results:
        return NOTHING
    body = []
    for name in [*workloads.groups()["all"], None]:
        own = [
            [row for row in result["rows"] if name in (None, row["set"])]
            for result in results.values()
        ]
        if any(own):
            body.append([name or "all", str(max(map(len, own))), *map(cell, own)])
    return markdown(["layers", "number", *map(short, results)], body)


def figures(result: Result) -> list[tuple[str, list[report.Row]]]:
    """The layers of each figure, and of each set that is a network's."""
    found = [
        (goal.text, [row for row in result["rows"] if re.match(goal.pattern, row["layer"])])
        for goal in workloads.goals()
    ]
    for name in workloads.groups()["networks"]:
        own = [row for row in result["rows"] if row["set"] == name]
        found.append((f"{name}, each layer", own))
    return [(text, rows) for text, rows in found if rows]


def section(file: Path) -> str:
    """One result: layers, mean, worst, losses; beside every engine too where any took part."""
    result = load(file)
    machine, versions = result["machine"], result["versions"]
    engines = report.engines_of(result["rows"])
    named = ["torch", "oneDNN", *(name for name in engines if name in versions)]
    told = ", ".join(f"{name} {versions[name]}" for name in named)
    header = ["layers", "number", "mean", "worst", "losses"]
    if engines:
        header += ["of all: mean / worst / losses"]
    body = []
    for text, rows in figures(result):
        s = report.summary(rows)
        worst = f"{s.worst:.2f} ({s.worst_layer.split('.', 1)[1]})"
        line = [text, str(s.layers), f"{s.mean:.2f}", worst, str(s.losses)]
        body.append(line + [cell(rows, "ratio_all")] * bool(engines))
    threads = f"{machine['threads']} thread" + "s" * (machine["threads"] != 1)
    regime = report.REGIMES[result["settings"]["regime"]]
    peak = f"peak {machine['fma_peak_gflops']:.0f} GFLOP/s"
    head = f"### {file.parent.name}, {threads}, {regime}"
    facts = f"{told}; {peak}; commit {result['commit']}"
    return "\n\n".join([head, facts, markdown(header, body)])


def whole_networks() -> str:
    """ResNet-18 as the demo runs it, and every way of `--networks` where that was measured."""
    body = []
    for file in sorted(RESULTS.glob("*/demo.json")):
        ms = load(file)["milliseconds"]
        best = min(value for name, value in ms.items() if name != "fastconv")
        ratio = f"{best / ms['fastconv']:.2f}"
        body.append([file.parent.name, f"{best:.2f}", f"{ms['fastconv']:.2f}", ratio])
    parts = [markdown(["ResNet-18, a photograph", "torch ms", "fastconv ms", "ratio"], body)]
    for file in sorted(RESULTS.glob("*/networks-*t.json")):
        result = load(file)
        for row in result["networks"]:
            ways = sorted(row["ms"].items(), key=lambda item: item[1])
            title = f"{file.parent.name}: {row['network']}, {result['machine']['threads']} threads"
            lines = ([name, f"{ms:.2f}", f"{row['error'][name]:.1e}"] for name, ms in ways)
            parts.append(markdown([title, "ms", "error"], lines))
    return "\n\n".join(parts) if body else NOTHING


def pages() -> dict[Path, str]:
    """What stands between the markers of each page."""
    shown = {file.parent.name: load(file) for file in sorted(RESULTS.glob(f"*/{SHOWN}"))}
    layers = [section(file) for file in sorted(RESULTS.glob("*/*packed-*t.json"))]
    whole = f"## Whole networks\n\n{whole_networks()}"
    every = "\n\n".join([whole, "## Layers", *(layers or [NOTHING])])
    return {ROOT / "README.md": overview(shown), ROOT / "docs" / "figures.md": every}


def main() -> int:
    stale = 0
    for page, body in pages().items():
        old = page.read_text(encoding="utf-8")
        before, rest = old.split(BEGIN)
        new = f"{before}{BEGIN}\n\n{body}\n\n{END}{rest.split(END)[1]}"
        if new == old:
            continue
        if "--check" in sys.argv:
            print(f"{page.relative_to(ROOT)} does not show the committed results", file=sys.stderr)
            stale = 1
        else:
            page.write_text(new, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main())
