"""The command ``fastconv``: info, bench, tune, demo, summary."""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastconv._version import version

if TYPE_CHECKING:
    from fastconv.problem import Direction


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(
        "fastconv", description="Hand-written convolution and pooling kernels for PyTorch."
    )
    top.add_argument("--version", action="version", version=f"fastconv {version()}")
    commands = top.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="versions, this machine, and what of fastconv it runs")
    info.add_argument("--rows", action="store_true",
                      help="every kernel too, and why it does or does not run here")  # fmt: skip

    bench = commands.add_parser(
        "bench", help="layers beside torch, each checked against float64 before it is timed"
    )
    what = bench.add_mutually_exclusive_group()
    what.add_argument("--set", dest="sets", type=_names, default=["quick"], metavar="NAME[,NAME]",
                      help="layer sets; all, networks, figures, or --list (default: quick)")  # fmt: skip
    what.add_argument("--networks", type=_names, metavar="NAME[,NAME]",
                      help="whole networks instead of layers: resnet18")  # fmt: skip
    bench.add_argument("--list", action="store_true", help="list the sets and stop")
    bench.add_argument(
        "--threads", type=_positive, default=_cores(), help="default: the cores of this process"
    )
    bench.add_argument("--batch", type=_positive, help="in place of the sets' own")
    bench.add_argument("--dtype", choices=["f32", "f64", "bf16", "f16"], default="f32")
    bench.add_argument("--direction", choices=["fprop", "dgrad", "wgrad", "step"],
                       help="step is forward and backward together (default: the sets' own)")  # fmt: skip
    bench.add_argument("--regime", choices=["packed", "compared", "unpacked"], default="packed",
                       help="packed: a frozen fastconv.nn module in eval, against prepacked oneDNN too; "
                            "compared: the same, not frozen; "
                            "unpacked: fastconv.enable(), packing counted")  # fmt: skip
    bench.add_argument("--peers", type=_names, default=["all"], metavar="NAME[,NAME]",
                       help="engines beside torch's eager paths: torch.compile, onnxruntime, openvino, "
                            "ncnn; all that are installed (the default), or none")  # fmt: skip
    bench.add_argument("--device", choices=["cpu", "cuda"], default="cpu",
                       help="cuda: the current GPU beside cuDNN, one direction at a time")  # fmt: skip
    bench.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    bench.add_argument(
        "--json", type=Path, metavar="FILE", help="write the result, with machine, versions, commit"
    )

    tune = commands.add_parser(
        "tune", help="time every kernel for layers on the current GPU, and keep what is fastest"
    )
    tune.add_argument("--set", dest="sets", type=_names, default=["figures"], metavar="NAME[,NAME]",
                      help="layer sets, as of bench (default: figures)")  # fmt: skip
    tune.add_argument("--batch", type=_positive, help="in place of the sets' own")
    tune.add_argument("--dtype", choices=["f32", "f64", "bf16", "f16"], default="bf16")
    tune.add_argument("--direction", choices=["fprop", "dgrad", "wgrad"],
                      help="default: all three")  # fmt: skip
    tune.add_argument("--limit", type=_positive, metavar="SECONDS",
                      help="begin no problem after so long; the most wanted come first")  # fmt: skip
    tune.add_argument("--json", type=Path, metavar="FILE",
                      help="write the times of all kernels, after each problem")  # fmt: skip

    demo = commands.add_parser(
        "demo", help="ResNet-18 on a photograph, torch and fastconv side by side"
    )
    demo.add_argument("--threads", type=_positive, default=_cores())
    demo.add_argument("--json", type=Path, metavar="FILE")

    summary = commands.add_parser(
        "summary", help="a handful of lines on what results of bench and demo come to"
    )
    summary.add_argument("files", type=Path, nargs="+", metavar="FILE", help="what --json wrote")
    return top


def _write(path: Path | None, value: dict[str, Any]) -> None:
    if path is not None:
        from fastconv import _files

        _files.write_json(path, value)


def _info(options: argparse.Namespace) -> int:
    from fastconv.info import info

    print(info(rows=options.rows))
    return 0


def _bench(options: argparse.Namespace) -> int:
    from fastconv.bench import gate, networks, report, run, tables, workloads

    if options.list:
        for name in workloads.set_names():
            print(f"{name:<12} {len(workloads.read_set(name))} layers")
        return 0
    whole = options.networks is not None
    if whole and (options.device, options.dtype, options.direction) != ("cpu", "f32", None):
        raise ValueError(
            "networks run on the cpu, forward, in f32: there is no other device, direction or dtype"
        )
    if options.device == "cuda":
        return _bench_on_cuda(options)
    quick = options.quick or (not whole and options.sets == ["quick"])
    settings = run.Settings(
        sets=options.sets,
        threads=options.threads,
        batch=options.batch,
        dtype=options.dtype,
        task=options.direction,
        regime=options.regime,
        peers=options.peers,
        quick=quick,
    )
    try:
        if whole:
            batch = options.batch or 1
            result = networks.run(options.networks, batch, options.threads, options.peers, quick)
        else:
            result = run.run(settings)
    except gate.WrongAnswerError as error:
        print(f"fastconv bench: {error}", file=sys.stderr)
        return 1
    _write(options.json, result)
    tables.show((networks if whole else report).render(result))
    return 0


def _bench_on_cuda(options: argparse.Namespace) -> int:
    from fastconv.bench import on_cuda, tables, workloads

    quick = options.quick or options.sets == ["quick"]
    task: workloads.Task = options.direction or "fprop"
    keep = functools.partial(_write, options.json)
    result = on_cuda.run(options.sets, options.batch, options.dtype, task, quick, keep)
    tables.show(on_cuda.render(result))
    return 0 if on_cuda.is_whole(result) else 1


def _tune(options: argparse.Namespace) -> int:
    from fastconv.bench import tables, tuning

    directions: list[Direction] = (
        [options.direction] if options.direction else ["fprop", "dgrad", "wgrad"]
    )
    keep = functools.partial(_write, options.json)
    result = tuning.run(
        options.sets, options.batch, options.dtype, directions, limit=options.limit, keep=keep
    )
    tables.show(tuning.render(result))
    return 0 if tuning.is_whole(result) else 1


def _demo(options: argparse.Namespace) -> int:
    from fastconv import demo
    from fastconv.bench import tables

    result = demo.run(options.threads)
    _write(options.json, result.as_dict())
    tables.show(demo.render(result, options.threads))
    return 0 if result.agrees else 1


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} holds no JSON: {error}") from None


def _summary(options: argparse.Namespace) -> int:
    from fastconv.bench import summary

    print(summary.lines({str(file): _read(file) for file in options.files}))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; its exit status. 2 for arguments that cannot be, 1 for a wrong answer or
    a kernel that failed.
    """
    options = parser().parse_args(arguments)
    try:
        commands = {
            "info": _info,
            "bench": _bench,
            "tune": _tune,
            "demo": _demo,
            "summary": _summary,
        }
        return commands[options.command](options)
    except (ValueError, ImportError, FileNotFoundError) as error:
        print(f"fastconv {options.command}: {error}", file=sys.stderr)
        return 2
