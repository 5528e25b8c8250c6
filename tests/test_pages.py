"""README and docs/figures.md show the committed results, and can be read."""

from __future__ import annotations

import importlib.util
import json
import re
import types
from pathlib import Path
from typing import Any

import pytest
import torch

import fastconv

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def render() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("render", ROOT / "benchmarks" / "render.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_show_the_committed_results(
    render: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render.sys, "argv", ["render.py", "--check"])
    assert render.main() == 0


def test_readme_can_be_read() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 130] == []
    tables = sum(line.startswith("| ---") or line.startswith("|---") for line in lines)
    assert tables == 1, "README shows one table; the others stand in docs/figures.md"


def test_readme_runs() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    snippets = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"model": torch.nn.Conv2d(64, 64, 3), "weight": torch.randn(64, 64, 3, 3),
             "x": torch.randn(1, 64, 8, 8)}  # fmt: skip
    try:
        for snippet in snippets:
            exec(compile(snippet, "README.md", "exec"), names)
    finally:
        fastconv.disable()
    assert len(snippets) == 2 and names["back"].shape == names["x"].shape


def test_a_new_result_is_a_column_and_a_section(
    render: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    root, folder = tmp_path, tmp_path / "results" / "some-cpu-family-7-avx2-4-cores"
    folder.mkdir(parents=True)
    (root / "docs").mkdir()
    row = {"set": "stem", "layer": "stem.a", "us_p50": 2.0, "ratio": 1.5}
    result = {
        "machine": {"threads": 2, "fma_peak_gflops": 100.0},
        "versions": {"torch": "2", "oneDNN": "3", "openvino": "4"},
        "settings": {"regime": "packed"},
        "commit": "abc",
        "rows": [row | {"peers_us": {"torch contiguous": 3.0, "openvino": 1.0}}],
    }
    (folder / "packed-2t.json").write_text(json.dumps(result), encoding="utf-8")
    ways = {"fastconv convert": 5.0, "openvino": 4.0}
    network = {"network": "resnet18", "ms": ways, "error": dict.fromkeys(ways, 1e-6)}
    text = json.dumps({"machine": {"threads": 2}, "networks": [network]})
    (folder / "networks-2t.json").write_text(text, encoding="utf-8")
    demo = json.dumps({"milliseconds": {"torch": 4.0, "fastconv": 2.0}})
    (folder / "demo.json").write_text(demo, encoding="utf-8")
    pages = [root / "README.md", root / "docs" / "figures.md"]
    for page in pages:
        page.write_text(f"# A\n\n{render.BEGIN}\n{render.END}\nB\n", encoding="utf-8")
    monkeypatch.setattr(render, "ROOT", root)
    monkeypatch.setattr(render, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(render.sys, "argv", ["render.py", "--check"])
    assert render.main() == 1
    assert "docs/figures.md does not show" in capsys.readouterr().err
    monkeypatch.setattr(render.sys, "argv", ["render.py"])
    assert render.main() == 0
    monkeypatch.setattr(render.sys, "argv", ["render.py", "--check"])
    assert render.main() == 0
    readme, figures = (page.read_text(encoding="utf-8") for page in pages)
    assert "| layers | number | some cpu 7 avx2 |" in readme
    assert "| stem | 1 | 1.50 / 1.50 / 0 |" in readme and readme.endswith("B\n")
    assert "openvino 4; peak 100 GFLOP/s; commit abc" in figures
    assert "| stem | 1 | 1.50 | 1.50 (a) | 0 | 0.50 / 0.50 / 1 |" in figures
    assert "| some-cpu-family-7-avx2-4-cores | 4.00 | 2.00 | 2.00 |" in figures
    assert "| openvino | 4.00 | 1.0e-06 |\n| fastconv convert | 5.00 |" in figures
