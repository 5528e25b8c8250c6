"""``fastconv demo``: ResNet-18 on a photograph, torch and fastconv side by side."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import torch

import fastconv
from fastconv.bench import tables, timing
from fastconv.bench.networks import settle
from fastconv.bench.peers import OURS
from fastconv.models import resnet18

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as its models expect

EFFORT = timing.Effort(rounds=15, warm_up=0.03, slot=0.06, limit=20)


def photograph(extent: int = 224) -> torch.Tensor:
    """scikit-learn's ``china.jpg`` as [1,3,extent,extent], shorter side to 8/7 of ``extent``, then
    cropped.

    Raises:
        ImportError: where scikit-learn or Pillow is not installed.
    """
    try:
        from sklearn.datasets import load_sample_image  # type: ignore[import-untyped, import-not-found, unused-ignore]

        pixels = np.array(load_sample_image("china.jpg"), np.float32) / 255
    except ImportError as error:
        raise ImportError(
            "the demo needs scikit-learn and Pillow: pip install 'fastconv[demo]'"
        ) from error
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    shorter = extent * 8 // 7
    scale = shorter / min(image.shape[2:])
    size = [round(side * scale) for side in image.shape[2:]]
    image = torch.nn.functional.interpolate(image, size, mode="bilinear", antialias=True)
    top, left = ((side - extent) // 2 for side in image.shape[2:])
    image = image[:, :, top : top + extent, left : left + extent]
    return (
        (image - torch.tensor(_MEAN)[:, None, None]) / torch.tensor(_STD)[:, None, None]
    ).contiguous()


@dataclasses.dataclass(frozen=True)
class Result:
    """Of the demo: logits' difference, top-5 of both, median milliseconds of each way."""

    top5: dict[str, list[int]]
    largest_difference: float
    largest_logit: float
    milliseconds: dict[str, float]

    @property
    def agrees(self) -> bool:
        return self.top5["torch"] == self.top5[OURS]

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"agrees": self.agrees}


def run(threads: int, effort: timing.Effort = EFFORT) -> Result:
    """Runs both networks with the same seeded weights and times them in turn."""
    torch.set_num_threads(threads)
    image = photograph()
    plain = resnet18(torch.nn, seed=0)
    settle(plain, image)
    ours = resnet18(fastconv.nn, seed=0)
    ours.load_state_dict(plain.state_dict())
    ours = ours.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    last = resnet18(torch.nn, seed=0)
    last.load_state_dict(plain.state_dict())
    last = last.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    image_last = image.contiguous(memory_format=torch.channels_last)

    ways = {
        OURS: functools.partial(ours, image_last),
        "torch contiguous": functools.partial(plain, image),
        "torch channels_last": functools.partial(last, image_last),
    }
    with torch.inference_mode():
        logits = {
            name: ways[way]().flatten()
            for name, way in (("torch", "torch contiguous"), (OURS, OURS))
        }
    entries = [
        timing.Entry(name, "torch", call, torch.inference_mode) for name, call in ways.items()
    ]
    timing.measure(entries, effort)
    return Result(
        {name: [int(i) for i in values.topk(5).indices] for name, values in logits.items()},
        float((logits["torch"] - logits[OURS]).abs().max()),
        float(logits["torch"].abs().max()),
        {entry.name: entry.median * 1e3 for entry in entries},
    )


def render(result: Result, threads: int) -> tables.Blocks:
    """The demo's text."""
    head = f"ResNet-18, seeded weights, china.jpg at 224 x 224, float32, {threads} threads"
    ours = result.milliseconds[OURS]
    best = min(value for name, value in result.milliseconds.items() if name != OURS)
    ranks = [f"top-{rank}" for rank in range(1, 6)]
    guesses = tables.table(
        ["", *ranks], ([name, *map(str, result.top5[name])] for name in result.top5)
    )
    relative = result.largest_difference / result.largest_logit
    times = ([name, f"{ms:.2f}", f"{ms / ours:.2f}"] for name, ms in result.milliseconds.items())
    return [
        head,
        guesses,
        f"same top-5: {'yes' if result.agrees else 'NO'}; largest difference "
        f"{result.largest_difference:.2e} ({relative:.1e} of the largest logit)",
        tables.table(["", "ms", f"/ {OURS}"], times),
        f"ratio {best / ours:.2f} (torch's better format over fastconv)",
    ]
