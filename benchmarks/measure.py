"""Takes every committed measurement of this machine: results/<machine>/<regime>-<threads>t.json,
networks-<threads>t.json, and the demo's.

Engines take part where they are installed (requirements/peers.txt).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fastconv import cli
from fastconv.bench import machine


def main() -> int:
    folder = Path(__file__).parent / "results" / machine.slug()
    cores = os.cpu_count() or 1
    runs = [
        (f"{regime}-{threads}t", ["--set", "all", "--regime", regime, "--threads", str(threads)])
        for threads in dict.fromkeys((cores, 1))
        for regime in ("packed", "unpacked")
    ]
    runs.append((f"networks-{cores}t", ["--networks", "resnet18", "--threads", str(cores)]))
    for name, words in runs:
        if status := cli.main(["bench", *words, "--json", str(folder / f"{name}.json")]):
            return status
    return cli.main(["demo", "--json", str(folder / "demo.json")])


if __name__ == "__main__":
    sys.exit(main())
