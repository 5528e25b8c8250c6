"""``fastconv.explain(model, x)``: which kernel runs each convolution of a model, and why."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from fastconv import registry
from fastconv.policy import get_precision
from fastconv.problem import ConvProblem

_DTYPES = {torch.float32: "f32", torch.float64: "f64", torch.bfloat16: "bf16", torch.float16: "f16"}
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclasses.dataclass(frozen=True)
class Layer:
    """One convolution of a model as it was called.

    Attributes:
        kernel: the kernel that ``auto`` takes; None where torch's own runs.
        others: (kernel, reason) of each row before the chosen one, or of all where none was.
    """

    name: str
    problem: ConvProblem | None
    kernel: str | None
    others: tuple[tuple[str, str], ...]

    @property
    def why(self) -> str:
        if self.problem is None:
            return "complex and integer tensors stay with torch"
        if self.kernel is None:
            return "no kernel is known to beat torch's here"
        return (
            "first in the table that takes it"
            if not self.others
            else f"{len(self.others)} before it do not"
        )


class Explanation(tuple[Layer, ...]):
    """The layers in the order of their calls. As text: a line each, and the reasons of the rows
    passed over.
    """

    def __str__(self) -> str:
        lines = []
        for layer in self:
            lines.append(f"{layer.name or 'model'}: {layer.problem or '-'}")
            lines.append(f"  runs {layer.kernel or 'torch'}: {layer.why}")
            lines += [f"    not {kernel}: {reason}" for kernel, reason in layer.others]
        return "\n".join(lines)


def _triple(values: tuple[int, ...], fill: int) -> tuple[int, int, int]:
    filled = (fill,) * (3 - len(values)) + tuple(values)
    return filled[0], filled[1], filled[2]


def _is_channels_last(t: torch.Tensor) -> bool:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return (
        t.dim() in formats
        and t.is_contiguous(memory_format=formats[t.dim()])
        and not t.is_contiguous()
    )


def problem_of(layer: Any, x: torch.Tensor, y: torch.Tensor) -> ConvProblem | None:
    """The problem of a convolution module called with ``x`` [N,C,(D,(H,))W], giving ``y``; None for
    other dtypes.
    """
    if x.dtype not in _DTYPES:
        return None
    spatial = len(layer.kernel_size)
    if x.dim() == spatial + 1:
        x, y = x[None], y[None]
    taps = _triple(layer.kernel_size, 1)
    dilation = _triple(layer.dilation, 1)
    extents = _triple(tuple(x.shape[2:]), 1)
    if layer.padding == "same":
        pad = _triple(
            tuple(d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)),
            0,
        )
    elif layer.padding == "valid":
        pad = (0, 0, 0)
    else:
        pad = _triple(layer.padding, 0)
    if layer.padding_mode != "zeros":  # the module pads beforehand
        amounts = layer._reversed_padding_repeated_twice
        added = _triple(
            tuple(amounts[i] + amounts[i + 1] for i in range(len(amounts) - 2, -1, -2)), 0
        )
        extents = tuple(e + a for e, a in zip(extents, added, strict=True))  # type: ignore[assignment]
        pad = (0, 0, 0)
    values: dict[str, Any] = {
        "N": x.shape[0],
        "C": x.shape[1],
        "K": y.shape[1],
        "groups": layer.groups,
    }
    triples = (
        ("DHW", extents), ("TRS", taps), ("ZPQ", _triple(tuple(y.shape[2:]), 1)),
        (("stride_d", "stride_h", "stride_w"), _triple(layer.stride, 1)),
        (("pad_d", "pad_h", "pad_w"), pad),
        (("dilation_d", "dilation_h", "dilation_w"), dilation),
    )  # fmt: skip
    for names, triple in triples:
        values |= dict(zip(names, triple, strict=True))
    last = _is_channels_last(x), _is_channels_last(y)
    values["x_layout"], values["y_layout"] = ("nhwc" if each else "nchw" for each in last)
    return ConvProblem(**values, dtype=_DTYPES[x.dtype])


def _explain_layer(
    name: str,
    module: nn.Module,
    problem: ConvProblem | None,
    precision: str,
    device: registry.Device,
) -> Layer:
    if problem is None:
        return Layer(name, None, None, ())
    must_win = not type(module).__module__.startswith("fastconv.")
    kernel = registry.chosen(problem, "fprop", precision, must_win, device)
    others = []
    for row in registry.kernels(problem, "fprop", precision, device):
        if row.name == kernel:
            break
        others.append((row.name, row.auto_reason or "a row above it comes first"))
    return Layer(name, problem, kernel, tuple(others))


def explain(
    model: nn.Module, *inputs: Any, precision: str | None = None, **kwargs: Any
) -> Explanation:
    """Runs ``model`` once and tells for each convolution the problem, the kernel that ``auto``
    takes, and why.

    A layer of ``fastconv.nn`` always runs a kernel of fastconv's; a plain ``torch.nn`` layer is
    explained as under
    ``fastconv.enable()``, which leaves to torch what no kernel is known to win.

    Args:
        inputs: what the model is called with, e.g. ``torch.randn(1, 3, 224, 224)``; also as
        keywords.
        precision: how far ``auto`` may go: ``"exact"``, ``"high"`` or ``"fast"``; None is what
            ``fastconv.get_precision()`` says.

    Raises:
        ValueError: for an unknown precision.
    """
    level = precision or get_precision()
    found: list[Layer] = []
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, _CONVS):

            def hook(
                module: nn.Module, args: tuple[Any, ...], y: torch.Tensor, name: str = name
            ) -> None:
                problem = problem_of(module, args[0], y)
                device: registry.Device = "cuda" if args[0].is_cuda else "cpu"
                found.append(_explain_layer(name, module, problem, level, device))

            handles.append(module.register_forward_hook(hook))
    try:
        with torch.no_grad():
            model(*inputs, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return Explanation(found)
