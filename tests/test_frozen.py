"""Weights that were promised to stay: what is noticed all the same."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from test_packing import KERNELS, ONE, assert_same, check, layer_and_input

import fastconv
from fastconv.nn.conv import PackCache
from fastconv.ops.conv import geometry_id
from fastconv.ops.formulas import Geometry

ops = torch.ops.fastconv


def test_a_frozen_weight_is_known_by_its_version_and_memory() -> None:
    x = torch.randn(1, 16, 8, 8)
    w = torch.randn(16, 16, 3, 3)
    number = geometry_id(Geometry(*ONE))
    for kernel in KERNELS:
        cache = PackCache()

        def serve(w: torch.Tensor, version: int, cache: PackCache = cache) -> None:
            out = ops._conv_packed(x, w, None, number, cache.id, version)
            assert_same(out, F.conv2d(x, w, padding=1))

        with fastconv.use(kernel):
            for _ in range(3):
                serve(w, 5)
            assert cache.packings == 1
            w.mul_(2)
            serve(w, 6)  # another version
            assert cache.packings == 2
            serve(w.clone(), 6)  # other memory, the same content: nothing to do
            assert cache.packings == 2
            for _ in range(3):
                serve(torch.randn(16, 16, 3, 3), 6)


def test_a_frozen_layer_sees_another_parameter_on_the_same_memory() -> None:
    layer, x = layer_and_input()
    for kernel in KERNELS:
        with fastconv.use(kernel):
            fastconv.freeze(layer)
            check(layer, x)
            other = torch.nn.Parameter(layer.weight.data, False)
            other.mul_(3)
            assert other._version == layer.weight._version
            layer.weight = other
            check(layer, x)
