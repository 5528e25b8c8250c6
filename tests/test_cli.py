"""The command line: what it prints, and how it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fastconv import _files, cli, registry
from fastconv._version import version


def test_info_fits_a_screen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where every reason is long."""
    reason = "no such thing was found, for which there are many causes; " * 9

    def check() -> str:
        assert cli.main(["info"]) == 0
        out = capsys.readouterr().out
        assert len(out.splitlines()) <= 24
        assert max(map(len, out.splitlines())) <= 100
        return out

    out = check()
    rows = [row for row in registry.kernels() if row.family == "conv" and row.target != "triton"]
    runs = sum(row.reason is None for row in rows)
    assert f"conv CPU      {runs} of " in out
    assert torch.__version__ in out and "L2 " in out
    monkeypatch.setattr(registry._triton, "why_not", lambda: reason)
    monkeypatch.setattr(registry, "_why_no_cuda", lambda: reason)
    monkeypatch.setattr(registry._cuda, "why_not", lambda: reason)
    assert "0 of " in check()


def test_info_lists_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", "--rows"]) == 0
    out = capsys.readouterr().out
    for row in (*registry.kernels(), *registry.kernels(device="cuda")):
        assert row.name in out
        if row.reason:
            assert row.reason in out


def test_module_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fastconv", "info"], capture_output=True, text=True, check=False,
        cwd=Path(__file__).resolve().parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "kernels, by family" in done.stdout


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
        (
            ["bench", "--networks", "resnet18", "--dtype", "bf16"],
            "networks run on the cpu, forward",
        ),
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


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"fastconv {version()}\n"


def test_an_unknown_network_is_named_before_anything_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["bench", "--networks", "resnet18,foo", "--peers", "none"]) == 2
    said = capsys.readouterr()
    assert said.err == "fastconv bench: network is 'foo'; it must be one of resnet18\n"


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


def test_demo_and_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastconv import demo
    from fastconv.bench import tables, timing

    result = demo.run(2, timing.Effort(rounds=1, warm_up=0, slot=0, attempts=1))
    text = tables.plain(demo.render(result, 2))
    assert result.agrees
    assert result.largest_difference < 1e-4 * result.largest_logit
    assert "same top-5: yes; largest difference" in text
    row = {"set": "quick", "in_doubt": False, "peers_us": {"openvino": 1.0, "torch": 2.0}}
    ratios = {"a": (2.0, 0.5), "b": (0.5, 0.5)}
    rows = [
        row | {"layer": name, "ratio": ratio, "ratio_all": least}
        for name, (ratio, least) in ratios.items()
    ]
    network = {"network": "resnet18", "ours": "fastconv convert", "best_peer": "torch contiguous",
               "ratio": 1.5, "best_of_all": "openvino", "ratio_all": 0.9, "in_doubt": False}  # fmt: skip
    values = (result.as_dict(), {"machine": {}, "rows": rows}, {"networks": [network]}, {})
    files = [tmp_path / f"{number}.json" for number in range(len(values))]
    for file, value in zip(files, values, strict=True):
        file.write_text(json.dumps(value), encoding="utf-8")
    assert cli.main(["summary", *map(str, files[:3])]) == 0
    out = capsys.readouterr().out
    assert "the same top-5 as torch" in out and "times as fast" in out
    assert "torch's best path: geometric mean 1.00x over 2 layers; 1 loss; worst 0.50x (b)" in out
    assert "best of all, openvino too: geometric mean 0.50x over 2 layers; 2 losses" in out
    assert "1.50x torch's best (torch contiguous), 0.90x the best of all (openvino)" in out
    assert "next: " in out
    assert len(out.splitlines()) <= 10
    capsys.readouterr()
    assert cli.main(["summary", str(files[3])]) == 2
    assert f"{files[3]} holds no result" in capsys.readouterr().err
    files[3].write_text("a host", encoding="utf-8")
    assert cli.main(["summary", str(files[3])]) == 2
    assert f"{files[3]} holds no JSON" in capsys.readouterr().err
    assert cli.main(["summary", str(tmp_path / "none.json")]) == 2


def test_tables_are_whole_where_no_terminal_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastconv.bench import tables

    monkeypatch.setenv("COLUMNS", "20")
    wide = [["kernel" * 30, tables.loss("0.50 loss", True)], ["[b]k", "1.00"]]
    text = tables.plain(["a head " * 40, tables.table(["name", "ratio"], wide)])
    lines = text.splitlines()
    assert lines[0] == ("a head " * 40).rstrip()
    assert [line.split() for line in lines[2:]] == [
        ["name", "ratio"], ["-" * (180 + 3 + 9)], ["kernel" * 30, "0.50", "loss"], ["[b]k", "1.00"],
    ]  # fmt: skip
    assert text.isascii()


def test_progress_says_each_tenth_where_no_terminal_is() -> None:
    import io

    from fastconv.bench import tables

    target = io.StringIO()
    with tables.progress(40, target) as step:
        for number in range(40):
            step(f"layer{number}")
    assert target.getvalue().splitlines() == [f"{4 * i}/40 layer{4 * i}" for i in range(10)]
