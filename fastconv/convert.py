"""`convert(model)`: a model's layers become fastconv's, in place."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch.nn.modules.conv import _ConvNd

from fastconv.nn import Conv2d

__all__ = ["Report", "convert"]


@dataclass
class Report:
    """What `convert` did, by the modules' names."""

    swapped: list[str] = field(default_factory=list)
    #: Convolutions that stay torch's, each with the reason.
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{len(self.swapped)} layers swapped, {len(self.left)} left"]
        lines += [
            f"  {name or '(the model itself)'}: {reason}" for name, reason in self.left.items()
        ]
        return "\n".join(lines)


def _why_left(module: _ConvNd) -> str:
    kind = type(module)
    if kind in (torch.nn.Conv1d, torch.nn.Conv3d) or isinstance(
        module, torch.nn.modules.conv._ConvTransposeNd
    ):
        return f"{kind.__name__} has no layer of fastconv's; enable() covers it"
    return f"its class {kind.__module__}.{kind.__qualname__} is not torch.nn.Conv2d itself"


def convert(model: torch.nn.Module) -> Report:
    """Turns every `torch.nn.Conv2d` of `model` into `fastconv.nn.Conv2d`, in place.

    A module stays the same object: only its class changes, so parameters, buffers, hooks,
    optimizers and `state_dict` know nothing of it. Subclasses of Conv2d are left alone: they may
    compute something else. Returns the names of what was swapped, and of each convolution left,
    with the reason.
    """
    report = Report()
    for name, module in model.named_modules():
        if type(module) is torch.nn.Conv2d:
            module.__class__ = Conv2d
            report.swapped.append(name)
        elif isinstance(module, _ConvNd) and type(module) is not Conv2d:
            report.left[name] = _why_left(module)
    return report
