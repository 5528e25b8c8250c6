"""``fastconv summary``: what results come to, in a handful of lines."""

from __future__ import annotations

from typing import Any

from fastconv.bench import networks, report

_NEXT = (
    "next: put fastconv.enable() into your own program, or fastconv.convert(model);",
    "      fastconv bench --networks resnet18   every way to run a whole network, engines too where installed",
    "      fastconv bench --set all             every layer set; README.md and docs/figures.md have other machines",
)


def _demo(result: dict[str, Any]) -> list[str]:
    """Of `fastconv demo`."""
    ms = result["milliseconds"]
    best = min(value for name, value in ms.items() if name != "fastconv")
    relative = result["largest_difference"] / result["largest_logit"]
    same = "the same top-5 as torch" if result["agrees"] else "NOT torch's top-5"
    return [
        f"ResNet-18 on a photograph: {same}, logits within {relative:.0e} of the largest",
        f"  torch {best:.2f} ms, fastconv {ms['fastconv']:.2f} ms: {best / ms['fastconv']:.2f} times as fast",
    ]


def _layers(result: dict[str, Any]) -> list[str]:
    """Of `fastconv bench`."""
    rows = result["rows"]
    lines = [f"{', '.join(dict.fromkeys(row['set'] for row in rows))}: {len(rows)} layers"]
    lines += [f"  {text}" for text in report.verdicts(rows)]
    doubtful = sum(row["in_doubt"] for row in rows)
    if doubtful:
        lines.append(
            f"  {doubtful} of them in doubt, beside busy neighbours: repeat on a quiet machine"
        )
    return lines


def lines(results: dict[str, Any]) -> str:
    """What each result comes to, and where to go from there.

    Args:
        results: what ``fastconv bench``, with ``--networks`` or without, and ``fastconv demo``
            wrote, by the name of the file that holds it.

    Raises:
        ValueError: naming the file that holds none of these.
    """
    found = []
    for file, result in results.items():
        if not isinstance(result, dict):
            result = {}
        if "milliseconds" in result:
            found += _demo(result)
        elif "networks" in result:
            found += [networks.verdict(row) for row in result["networks"]]
        elif "rows" in result and "machine" in result:
            found += _layers(result)
        else:
            raise ValueError(f"{file} holds no result of `fastconv bench` or `fastconv demo`")
    return "\n".join([*found, *_NEXT])
