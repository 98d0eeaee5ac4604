"""ConvNet-3 out of PyTorch's own layers, and the losses on it."""

# PyTorch has no types where it is not installed.
# mypy: disallow-subclassing-any=False, warn-return-any=False, disallow-untyped-decorators=False

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEPTH = 3


class ConvNet(nn.Module):
    """Blocks of 3×3 convolution, instance norm, ReLU and average pooling; images are NCHW.

    Its tensors have the names of the published networks, which `jdd.interop` reads.
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int, width: int) -> None:
        super().__init__()
        side, _, channels = image_shape
        first_padding = 3 if channels == 1 and side == 28 else 1
        layers: list[nn.Module] = []
        for block in range(DEPTH):
            padding = first_padding if block == 0 else 1
            layers += [
                nn.Conv2d(channels, width, 3, padding=padding),
                nn.GroupNorm(width, width),
                nn.ReLU(),
                nn.AvgPool2d(2),
            ]
            side = (side + 2 * (padding - 1)) // 2
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * side * side, classes)

    def forward(self, images: Tensor) -> Tensor:
        """`(n, c, h, w)` → logits `(n, classes)`."""
        return self.classifier(self.embed(images))

    def embed(self, images: Tensor) -> Tensor:
        """The flattened features before the classifier, `(n, d)`."""
        return self.features(images).flatten(1)

    def trace(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The maps behind every ReLU, and the features."""
        maps = []
        for layer in self.features:
            images = layer(images)
            if isinstance(layer, nn.ReLU):
                maps.append(images)
        return maps, images.flatten(1)


def gradient_distance(synthetic: list[Tensor], real: list[Tensor]) -> Tensor:
    """DC's layer-wise cosine distance of two lists of gradients, 1-D ones left out."""
    total = torch.zeros((), device=real[0].device)
    for a, b in zip(synthetic, real, strict=True):
        if a.dim() > 1:
            a, b = a.flatten(1), b.flatten(1)
            cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)
            total = total + (1 - cosine).sum()
    return total


def mean_distance(synthetic: Tensor, real: Tensor) -> Tensor:
    """DM's squared distance of the mean features `(n, d)`, `(m, d)`."""
    return ((real.mean(0) - synthetic.mean(0)) ** 2).sum()


def attention(maps: Tensor, power: float) -> Tensor:
    """DataDAM's spatial attention: `(n, c, h, w)` → `(n, h·w)` of norm 1."""
    return F.normalize(maps.abs().pow(power).sum(1).flatten(1), dim=1)
