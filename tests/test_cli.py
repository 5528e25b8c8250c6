"""The command line: what it prints, and how it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fastconv import _files, cli, registry


def test_info_lists_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    for row in registry.kernels():
        assert row.name in out
        if row.reason:
            assert row.reason in out


def test_module_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fastconv", "info"], capture_output=True, text=True, check=False,
        cwd=Path(__file__).resolve().parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "kernels, in the order of choice" in done.stdout


@pytest.mark.parametrize(
    ("words", "error"),
    [
        pytest.param(
            ["bench", "--device", "cuda"],
            "device is 'cuda', but ",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        (["bench", "--set", "nope"], "set is 'nope'; it must be one of all"),
        (["bench", "--peers", "tvm"], "peers has 'tvm'"),
    ],
)
def test_errors(words: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert error in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["bench", "--threads", "0"], ["tune", "--limit", "0"], ["bench", "--dtype", "int8"], []],
)
def test_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--list"]) == 0
    assert "resnet18" in capsys.readouterr().out


def test_json_replaces_files_and_writes_through_links(tmp_path: Path) -> None:
    file, link = tmp_path / "made" / "a.json", tmp_path / "link"
    for value in (1, 2):
        _files.write_json(file, {"value": value})
        assert json.loads(file.read_text(encoding="utf-8")) == {"value": value}
    link.symlink_to(file)
    _files.write_json(link, {"value": 3})
    assert link.is_symlink() and "3" in file.read_text(encoding="utf-8")
    assert list(file.parent.iterdir()) == [file]


def test_demo(capsys: pytest.CaptureFixture[str]) -> None:
    from fastconv import demo

    result = demo.run(threads=2, rounds=1)
    text = demo.render(result, 2)
    assert result.agrees
    assert result.largest_difference < 1e-4 * result.largest_logit
    assert "same top-5           yes" in text
