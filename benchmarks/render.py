"""Writes the tables of README.md from the JSON in results/; ``--check`` fails where they are stale."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from fastconv.bench import report

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- figures: benchmarks/render.py -->", "<!-- end of figures -->"


def figures(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """One line a figure: layers, mean, worst, losses."""
    lines = []
    for goal in report.GOALS:
        rows = [row for row in result["rows"] if re.match(goal.pattern, row["layer"])]
        if rows:
            s = report.summary(rows)
            worst = f"{s.worst:.2f} ({s.worst_layer.split('.', 1)[1]})"
            lines.append((goal.text, str(s.layers), f"{s.mean:.2f}", worst, str(s.losses)))
    for name in ("resnet18", "resnet50", "vgg16", "mobilenetv2", "resnext50"):
        rows = [row for row in result["rows"] if row["set"] == name]
        if rows:
            s = report.summary(rows)
            worst = f"{s.worst:.2f} ({s.worst_layer.split('.', 1)[1]})"
            lines.append(
                (f"{name}, each layer", str(s.layers), f"{s.mean:.2f}", worst, str(s.losses))
            )
    return lines


def table(file: Path) -> str:
    """A Markdown section for one result."""
    result = json.loads(file.read_text(encoding="utf-8"))
    machine, versions = result["machine"], result["versions"]
    regime = {"packed": "weights packed once", "unpacked": "weights packed on every call"}
    head = (
        f"**{file.parent.name}, {machine['threads']} threads, "
        f"{regime[result['settings']['regime']]}** (torch {versions['torch']}, oneDNN {versions['oneDNN']}, "
        f"peak {machine['fma_peak_gflops']:.0f} GFLOP/s, commit {result['commit']})"
    )
    lines = [head, "", "| layers | number | mean ratio | worst | losses |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(cells) + " |" for cells in figures(result)]
    return "\n".join(lines)


def main() -> int:
    files = sorted((ROOT / "benchmarks" / "results").glob("*/*packed-*t.json"))
    readme = ROOT / "README.md"
    old = readme.read_text(encoding="utf-8")
    body = (
        "\n\n".join(table(file) for file in files)
        or "No result is committed yet: `make results` takes one."
    )
    before, rest = old.split(BEGIN)
    new = f"{before}{BEGIN}\n\n{body}\n\n{END}{rest.split(END)[1]}"
    if "--check" in sys.argv:
        return int(new != old)
    readme.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
