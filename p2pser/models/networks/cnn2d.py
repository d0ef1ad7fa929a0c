"""A small convolutional network on a matrix (bands by frames), with group normalisation.

GroupNorm (Wu and He 2018) keeps no running statistics, so nothing but parameters has to be averaged, and it
does not depend on what else is in the batch, which differs between peers.
"""

from __future__ import annotations

from torch import Tensor, cat, nn

from p2pser.models.networks.layers import Conv2d, Linear, dropped


class CNN2d(nn.Module):
    """(n, bands, frames) float32 to logits (n, classes).

    A block: 3 x 3 convolution (the first with stride 2, which quarters the total cost), GroupNorm, ReLU, 2 x
    2 mean pooling (where a side is still at least 2). Then mean and maximum over time and bands, dropout, a
    linear head.

    groups: of each GroupNorm. scale: the factor of the pooled maps (``models.widths``; between blocks GroupNorm
    removes any scale).
    """

    def __init__(self, channels: tuple[int, ...], groups: tuple[int, ...], classes: int, dropout: float,
                 scale: float = 1.0) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList()
        self.norms = nn.ModuleList()
        for before, after, count in zip((1, *channels[:-1]), channels, groups):
            self.convolutions.append(
                Conv2d(before, after, 3, stride=2 if before == 1 else 1, padding=1, bias=False))
            self.norms.append(nn.GroupNorm(count, after))
        self.head = Linear(2 * channels[-1], classes)
        self.head.sources = 2
        self.dropout = dropout
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        maps = features.unsqueeze(1)
        for convolution, norm in zip(self.convolutions, self.norms):
            maps = norm(convolution(maps)).relu_()
            stride = (2 if maps.shape[2] > 1 else 1, 2 if maps.shape[3] > 1 else 1)
            maps = nn.functional.avg_pool2d(maps, stride)
        pooled = cat((maps.mean((2, 3)), maps.amax((2, 3))), 1)
        if self.scale != 1:
            pooled = pooled * self.scale
        return self.head(dropped(pooled, self.dropout, self.training))  # type: ignore[no-any-return]
