"""The ops of the conv family, where the op library does not define or implement them.

Without the library all of `torch.ops.fastconv` that users call is defined here, by the schemas of
csrc/torch/ops_conv.cc (`tests/test_portable.py` compares them). Without its CUDA kernels the ops are
implemented for CUDA tensors. And always: the ops by which the library runs Triton's rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastconv import _native
from fastconv.ops import portable
from fastconv.ops.formulas import Geometry
from fastconv.ops.rows import row_for
from fastconv.problem import ConvProblem
from fastconv.tensors import layout_of, problem_of

__all__ = ["SCHEMAS"]

_GEOMETRY = "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups"
_OPTIONS = (
    'str kernel_name="", Tensor? scale=None, Tensor? residual=None, str activation="none", '
    "Tensor? packed=None"
)
SCHEMAS = {
    "conv": f"(Tensor input, Tensor weight, Tensor? bias, {_GEOMETRY}, {_OPTIONS}) -> Tensor",
    "conv_dgrad": "(Tensor grad, Tensor weight, Tensor? bias, SymInt[] input_size, "
    f"{_GEOMETRY}, {_OPTIONS}) -> Tensor",
    "conv_wgrad": "(Tensor grad, Tensor input, SymInt[] weight_size, SymInt[] weight_stride, "
    f'{_GEOMETRY}, str kernel_name="") -> Tensor',
    "conv_bias_grad": "(Tensor grad) -> Tensor",
    "conv_pack": f"(Tensor weight, SymInt[] input_size, bool channels_last, {_GEOMETRY}, "
    'str direction="fprop", str kernel_name="") -> Tensor',
    "conv_choice": f'(Tensor input, Tensor weight, {_GEOMETRY}, str direction="fprop") -> str',
}


def _pack(weight: Tensor, *_: object) -> Tensor:
    """No bytes: Triton's rows take weights as they lie."""
    return weight.new_empty(0, dtype=torch.uint8)


def _choice(
    input: Tensor,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    direction: str = "fprop",
) -> str:
    geometry = Geometry(tuple(stride), tuple(padding), tuple(dilation), groups)
    size = portable.output_size(input.shape, weight.shape, geometry)
    if size is None or direction not in ("fprop", "dgrad", "wgrad"):
        return "torch: the operands do not fit each other"
    layout = layout_of(input)
    p = problem_of(input.shape, weight.shape, size, geometry, input.dtype, (layout, layout))
    row = row_for(direction, p, input.device, "", False)
    return "torch: no kernel is known to win here" if row is None else row.name


def _external_conv(
    source: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    residual: Tensor | None,
    out: Tensor,
    problem: str,
    kernel: str,
    activation: str,
) -> None:
    from fastconv.triton import call, choice

    row = choice.find(kernel)
    assert row is not None
    p = ConvProblem.decode(problem)
    call.run_forward(row, p, source, weight, out, bias, scale, residual, activation)


def _external_conv_wgrad(x: Tensor, dy: Tensor, out: Tensor, problem: str, kernel: str) -> None:
    from fastconv.triton import call, choice

    row = choice.find(kernel)
    assert row is not None
    call.run_wgrad(row, ConvProblem.decode(problem), x, dy, out)


_library = torch.library.Library("fastconv", "FRAGMENT")
if _native.lib is None:
    for _name, _schema in SCHEMAS.items():
        _library.define(_name + _schema)
for _key in ("CPU", "CUDA"):
    if _native.lib is not None and (_key == "CPU" or _native.has_cuda):
        continue
    for _name, _function in {
        "conv": portable.conv,
        "conv_dgrad": portable.conv_dgrad,
        "conv_wgrad": portable.conv_wgrad,
        "conv_bias_grad": portable.bias_grad,
        "conv_pack": _pack,
        "conv_choice": _choice,
    }.items():
        _library.impl(_name, _function, _key)

_library.define(
    "_external_conv(Tensor source, Tensor weight, Tensor? bias, Tensor? scale, Tensor? residual, "
    "Tensor(a!) out, str problem, str kernel, str activation) -> ()"
)
_library.define(
    "_external_conv_wgrad(Tensor x, Tensor dy, Tensor(a!) out, str problem, str kernel) -> ()"
)
_library.impl("_external_conv", _external_conv, "CompositeExplicitAutograd")
_library.impl("_external_conv_wgrad", _external_conv_wgrad, "CompositeExplicitAutograd")
