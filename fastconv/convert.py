"""What turns a whole model's layers into fastconv's and back, and freezes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch.nn.modules.conv import _ConvNd

from fastconv import _native, nn
from fastconv.nn.conv import Layer, PackCache
from fastconv.nn.leaf import pass_for_torchs

__all__ = ["Report", "convert", "freeze", "revert", "unfreeze"]

#: Ours for each of torch's, of every family.
_OURS: dict[type[torch.nn.Module], type[torch.nn.Module]] = {
    theirs: ours
    for files in nn.FAMILIES.values()
    for file in files
    for theirs, ours in file.OURS.items()
}
_KNOWN: tuple[type[torch.nn.Module], ...] = tuple(_OURS)
_TORCHS = {ours: theirs for theirs, ours in _OURS.items()}


@dataclass
class Report:
    """What `convert` or `revert` did, by the modules' names."""

    swapped: list[str] = field(default_factory=list)
    #: Layers that stay as they are, each with the reason.
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{len(self.swapped)} layers swapped, {len(self.left)} left"]
        lines += [
            f"  {name or '(the model itself)'}: {reason}" for name, reason in self.left.items()
        ]
        return "\n".join(lines)


def _modules(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """The model's modules by name. Raises TypeError for what is no module."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model is {model!r}; it must be a torch.nn.Module")
    return iter(model.named_modules())


def _why_left(module: torch.nn.Module) -> str:
    kind = type(module)
    if isinstance(module, _ConvNd) and torch.nn.parameter.is_lazy(module.weight):
        return f"{kind.__name__} has no weight yet: call the model once, then convert"
    return f"its class {kind.__module__}.{kind.__qualname__} is not one of torch.nn's own"


def convert(model: torch.nn.Module) -> Report:
    """Turns every layer of `model` that `fastconv.nn` has (`torch.nn.Conv1d` to `Conv3d`,
    `ConvTranspose1d` to `3d`, and the pools: `AvgPool`, `MaxPool`, `AdaptiveAvgPool`,
    `AdaptiveMaxPool`, `LPPool` and `MaxUnpool` of one to three axes) into `fastconv.nn`'s of that name, in place.

    A module stays the same object: only its class changes, so parameters, buffers, hooks,
    optimizers and `state_dict` know nothing of it. Subclasses are left alone: they may compute
    something else. Returns the names of what was swapped, and of each one left, with the
    reason. `revert` is the inverse.

    Quantization and fusion of torch.ao look layers up by their exact class, and pass over ours as
    over any subclass: use them first, or `revert` before.

    Raises:
        TypeError: for what is no module.
    """
    report = Report()
    for name, module in _modules(model):
        ours = _OURS.get(type(module))
        if ours is not None:
            module.__class__ = ours
            pass_for_torchs(module)
            report.swapped.append(name)
        elif isinstance(module, _KNOWN) and type(module) not in _TORCHS:
            report.left[name] = _why_left(module)
    return report


def revert(model: torch.nn.Module) -> Report:
    """Turns every layer of `fastconv.nn` in `model` into torch's of that name, in place: what
    `convert` did is undone. Subclasses are left alone.
    """
    report = Report()
    for name, module in _modules(model):
        theirs = _TORCHS.get(type(module))
        if theirs is not None:
            for word in ("_pack_cache", "__module__"):
                module.__dict__.pop(word, None)
            module.__class__ = theirs
            report.swapped.append(name)
        elif isinstance(module, tuple(_TORCHS)):
            kind = type(module)
            report.left[name] = (
                f"its class {kind.__module__}.{kind.__qualname__} is not one of fastconv.nn's own"
            )
    return report


def _layers(model: torch.nn.Module) -> Iterator[tuple[str, Layer]]:
    return ((name, m) for name, m in _modules(model) if isinstance(m, Layer))


def freeze(model: torch.nn.Module) -> list[str]:
    """Promises that the weights of `model`'s fastconv layers do not change from now on.

    Nothing needs this promise: without it each call without gradients compares the weight's content
    with what was packed, so that an answer is never of an old weight. With it the comparison is
    spared. Updates that torch's version counter sees, another Parameter, `load_state_dict` and `.to()`
    are noticed all the same; what may go unnoticed are changes through `weight.data`, NumPy, shared
    memory or a fused optimizer. `train()`, `unfreeze` and copying a layer end the promise. Parameters
    keep their `requires_grad`, and calls with gradients read the weight itself.

    Returns the names of the layers that are frozen now.

    Raises:
        ValueError: where a layer is in training mode.
    """
    layers = list(_layers(model))
    for name, layer in layers:
        if layer.training:
            raise ValueError(f"layer {name!r} is in training mode: call eval() before freeze()")
    if _native.lib is None:  # no kernel packs
        return []
    for _, layer in layers:
        layer._pack_cache = PackCache(frozen=not layer.weight.is_inference())
    return [name for name, _ in layers]


def unfreeze(model: torch.nn.Module) -> None:
    """Ends the promise of `freeze`: weights are compared again at each call."""
    for _, layer in _layers(model):
        layer._pack_cache = None
