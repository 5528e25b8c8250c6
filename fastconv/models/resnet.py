"""ResNet-18 in torchvision's definition and key names, with the layers' namespace as an argument.

Source: He et al., Deep Residual Learning for Image Recognition, 2015.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: [N,C,H,W] to [N,K,H/stride,W/stride]."""

    def __init__(self, layers: Any, C: int, K: int, stride: int) -> None:
        super().__init__()
        self.conv1 = layers.Conv2d(C, K, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(K)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = layers.Conv2d(K, K, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(K)
        self.downsample: nn.Module | None = None
        if stride != 1 or C != K:
            self.downsample = nn.Sequential(
                layers.Conv2d(C, K, 1, stride, bias=False), nn.BatchNorm2d(K)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        y: torch.Tensor = self.relu(self.bn2(self.conv2(x)).add_(shortcut))
        return y


class ResNet(nn.Module):
    """Stem, four stages of basic blocks, a linear classifier: [N,3,H,W] to [N,classes]."""

    def __init__(self, layers: Any, blocks: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.conv1 = layers.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        C = 64
        for number, count in enumerate(blocks):
            K = 64 << number
            strides = [1 if number == 0 else 2] + [1] * (count - 1)
            stage = [
                BasicBlock(layers, C if i == 0 else K, K, stride)
                for i, stride in enumerate(strides)
            ]
            self.add_module(f"layer{number + 1}", nn.Sequential(*stage))
            C = K
        self.stages = len(blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(C, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for number in range(self.stages):
            x = self.get_submodule(f"layer{number + 1}")(x)
        x = self.avgpool(x).flatten(1)
        logits: torch.Tensor = self.fc(x)
        return logits


def resnet18(layers: Any = nn, classes: int = 1000, seed: int | None = None) -> ResNet:
    """ResNet-18, 11,689,512 parameters for 1000 classes; loads torchvision's ``state_dict``.

    Args:
        layers: where ``Conv2d`` comes from: ``torch.nn`` or ``fastconv.nn``.
        seed: makes the random weights the same every time; None draws from the global generator.
    """
    if seed is None:
        return ResNet(layers, (2, 2, 2, 2), classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResNet(layers, (2, 2, 2, 2), classes)
