"""``fastconv bench --networks``: whole networks for inference, every way in turn in one process."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import importlib.util
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import fastconv
from fastconv import models
from fastconv.bench import machine, peers, tables, timing
from fastconv.bench.gate import WrongAnswerError, error

#: Of the largest output: what a network's sums may differ from float64's.
BOUND = 1e-4
EFFORT = timing.Effort(rounds=9, warm_up=0.03, slot=0.06, limit=30)
QUICK = timing.Effort(rounds=5, warm_up=0.01, slot=0.02, limit=10)
CONVERT, ENABLE = "fastconv convert", "fastconv enable"
OURS = (CONVERT, ENABLE)


def names() -> list[str]:
    """The networks there are."""
    return [name for name in models.__all__ if name.islower()]


def settle(model: torch.nn.Module, image: torch.Tensor) -> None:
    """Gives the batch norms of an untrained network the statistics of the image's neighbourhood.

    Without them activations of a random network grow from block to block, and a comparison would
    say little.
    """
    random = torch.Generator().manual_seed(0)
    batch = image + 0.5 * torch.randn(8, *image.shape[1:], generator=random)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # averages over what it sees
            module.reset_running_stats()
    model.train()
    with torch.no_grad():
        model(batch)
    model.eval()


def exported(model: torch.nn.Module, x: torch.Tensor) -> bytes:
    """The network as an ONNX model of the input ``x`` and the output ``y``."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = Path(folder) / "model.onnx"
        torch.onnx.export(model, (x,), file, input_names=["x"], output_names=["y"], dynamo=False)
        return file.read_bytes()


@contextlib.contextmanager
def _enabled() -> Any:
    with torch.inference_mode(), fastconv.enabled():
        yield


@dataclasses.dataclass(frozen=True)
class Network:
    """A network in eval mode with its input, in plain layout, and its output in float64."""

    model: torch.nn.Module
    x: torch.Tensor
    want: torch.Tensor

    @property
    def last(self) -> tuple[torch.nn.Module, torch.Tensor]:
        """A copy in channels_last, and the input."""
        model: Any = copy.deepcopy(self.model)
        x = self.x.contiguous(memory_format=torch.channels_last)
        return model.to(memory_format=torch.channels_last), x


def check(name: str) -> None:
    """Raises ValueError for a name that is none."""
    if name not in names():
        raise ValueError(f"network is {name!r}; it must be one of {', '.join(names())}")


def network(name: str, batch: int) -> Network:
    """A network with seeded weights and a seeded image of 224 x 224.

    Raises:
        ValueError: for a name that is none.
    """
    check(name)
    x = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    model: torch.nn.Module = getattr(models, name)(seed=0)
    settle(model, x[:1])
    with torch.inference_mode():
        return Network(model, x, copy.deepcopy(model).double()(x.double()))


def _converted(net: Network) -> peers.Prepared:
    model, x = net.last
    fastconv.convert(model)
    return peers.Prepared(functools.partial(model, x))


def _eager(net: Network) -> peers.Prepared:
    return peers.Prepared(functools.partial(net.model, net.x))


def _eager_last(net: Network) -> peers.Prepared:
    model, x = net.last
    return peers.Prepared(functools.partial(model, x))


def _engine(name: str, net: Network) -> peers.Prepared | str:
    module = peers.ENGINES[name].load()
    if name == peers.COMPILE:
        prepared: peers.Prepared = module.prepare(*net.last)
        return prepared
    if not hasattr(module, "prepare_model"):
        return "it takes single layers alone"
    if importlib.util.find_spec("onnx") is None:
        return "torch exports a network to it by a package that is not installed: pip install onnx"
    model = exported(net.model, net.x)
    prepared = module.prepare_model(model, net.x, net.want.shape)
    return prepared


Make = Callable[[Network], peers.Prepared | str]


def ways(engines: list[str]) -> list[tuple[str, str, Make, timing.Scope]]:
    """Each way to run a network: name, runtime, how it is made ready, and the calls' scope."""
    inference: timing.Scope = torch.inference_mode
    eager: list[tuple[str, str, Make, timing.Scope]] = [
        (CONVERT, "torch", _converted, inference),
        (ENABLE, "torch", _eager_last, _enabled),
        ("torch channels_last", "torch", _eager_last, inference),
        ("torch contiguous", "torch", _eager, inference),
    ]
    return eager + [
        (name, peers.ENGINES[name].runtime, functools.partial(_engine, name), inference)
        for name in engines
    ]


def _entered(
    net: Network, engines: list[str]
) -> tuple[list[timing.Entry], dict[str, float], dict[str, str]]:
    """Those that gave the right answer, their errors, and why the others take no part.

    Raises:
        WrongAnswerError: where a way of ours is wrong.
    """
    entries, errors, left_out = [], {}, {}
    for name, runtime, make, scope in ways(engines):
        try:
            prepared = make(net)
            if isinstance(prepared, str):
                left_out[name] = prepared
                continue
            with scope():
                errors[name] = error(prepared.result(), net.want)
        except Exception as fault:  # of an engine: the others are still measured
            if name in OURS:
                raise
            left_out[name] = f"{type(fault).__name__}: {fault}"
            continue
        if not errors[name] <= BOUND:
            text = f"its outputs are wrong by {errors[name]:.1e} of the largest"
            if name in OURS:
                raise WrongAnswerError(f"{name}: {text}")
            left_out[name] = text
            continue
        entries.append(timing.Entry(name, runtime, prepared.call, scope, keeps=prepared))
    return entries, errors, left_out


def run_one(name: str, batch: int, engines: list[str], effort: timing.Effort) -> dict[str, Any]:
    """Gate and timing of one network, as a row of the result."""
    entries, errors, left_out = _entered(network(name, batch), engines)
    quality = timing.measure(entries, effort)
    ours = min((e for e in entries if e.name in OURS), key=lambda entry: entry.median)
    others = sorted((e for e in entries if e.name not in OURS), key=lambda entry: entry.median)
    torchs = next(entry for entry in others if entry.runtime == "torch")
    return {
        "network": name,
        "batch": batch,
        "ms": {entry.name: entry.median * 1e3 for entry in entries},
        "error": errors,
        "left_out": left_out,
        "ours": ours.name,
        "best_peer": torchs.name,
        "ratio": torchs.median / ours.median,
        "best_of_all": others[0].name,
        "ratio_all": others[0].median / ours.median,
        "foreign_cores": round(quality.foreign_cores, 3),
        "spread": round(quality.spread, 3),
        "attempts": quality.attempts,
        "in_doubt": quality.doubt > 1,
    }


def run(
    networks: list[str], batch: int, threads: int, wanted: list[str], quick: bool
) -> dict[str, Any]:
    """Measures the networks; what ``--json`` writes.

    Args:
        wanted: the engines, as `peers.take_part` takes them.

    Raises:
        ValueError: for a name that is no network's or no engine's.
        WrongAnswerError: where a way of ours gives a wrong answer.
    """
    for name in networks:
        check(name)
    engines = peers.take_part(wanted)
    present = [name for name, reason in engines.items() if reason is None]
    torch.set_num_threads(threads)
    timing.keep_freed_memory()
    rows = []
    with tables.progress(len(networks)) as step:
        for name in networks:
            step(name)
            rows.append(run_one(name, batch, present, QUICK if quick else EFFORT))
    return {
        "schema": 1,
        "machine": machine.facts() | {"threads": threads},
        "versions": machine.versions()
        | {name: peers.ENGINES[name].version for name in present if name != peers.COMPILE},
        "commit": machine.commit(),
        "engines_left_out": {name: reason for name, reason in engines.items() if reason},
        "networks": rows,
    }


def verdict(row: dict[str, Any]) -> str:
    """A network's ratios in a line."""
    text = (
        f"{row['network']}: {row['ours']} is {row['ratio']:.2f}x torch's best ({row['best_peer']})"
    )
    if row["best_of_all"] != row["best_peer"]:
        text += f", {row['ratio_all']:.2f}x the best of all ({row['best_of_all']})"
    return text + (" ?" if row["in_doubt"] else "")


def render(result: dict[str, Any]) -> tables.Blocks:
    """A table a network: milliseconds and error of each way, the fastest first."""
    named = ", ".join(f"{name} {text}" for name, text in result["versions"].items() if text)
    facts = result["machine"]
    blocks: tables.Blocks = [f"{facts['cpu']}, {facts['threads']} threads, float32\n{named}"]
    for row in result["networks"]:
        ours = row["ms"][row["ours"]]
        body = [
            [name, f"{ms:.2f}", f"{ms / ours:.2f}", f"{row['error'][name]:.1e}"]
            for name, ms in sorted(row["ms"].items(), key=lambda item: item[1])
        ]
        title = f"{row['network']}, batch {row['batch']}"
        blocks.append(tables.table([title, "ms", f"over {row['ours']}", "error"], body))
        missing = result["engines_left_out"] | row["left_out"]
        notes = [f"without {name}: {reason}" for name, reason in missing.items()]
        blocks.append("\n".join([*notes, verdict(row)]))
    return blocks
