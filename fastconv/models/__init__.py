"""Networks written once for any layer namespace."""

from fastconv.models.resnet import ResNet, resnet18

__all__ = ["ResNet", "resnet18"]
