"""A small convolutional network on a matrix (bands by frames): the network of the family ``cnn2d``."""

from __future__ import annotations

from torch import Tensor, cat, nn

from p2pser.models.networks.layers import LEAST_VARIANCE, Conv2d, Linear, dropped


class CNN2d(nn.Module):
    """(n, bands, frames) float32 to logits (n, classes).

    The mean of every ``stride`` frames is a step. A block: 3 x 3 convolution (the first with stride 2, which quarters
    the total cost), GroupNorm, ReLU, the maximum of 2 x 2 (where a side is still at least 2). Then mean and standard
    deviation over time of each channel in each remaining band, dropout, a linear head.

    groups: of each GroupNorm. scale: the factor of the pooled maps (``models.widths``; between blocks GroupNorm
    removes any scale).
    """

    def __init__(self, bands: int, channels: tuple[int, ...], groups: tuple[int, ...], classes: int, *, stride: int,
                 dropout: float, scale: float = 1.0) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList()
        self.norms = nn.ModuleList()
        for before, after, count in zip((1, *channels[:-1]), channels, groups):
            self.convolutions.append(
                Conv2d(before, after, 3, stride=2 if before == 1 else 1, padding=1, bias=False))
            self.norms.append(nn.GroupNorm(count, after))
        bands = (bands + 1) // 2
        for _ in channels:
            bands = max(1, bands // 2)
        self.head = Linear(2 * channels[-1] * bands, classes)
        self.head.sources = 2
        self.stride = stride
        self.dropout = dropout
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        maps = nn.functional.avg_pool1d(features, min(self.stride, features.shape[-1])).unsqueeze(1)
        for convolution, norm in zip(self.convolutions, self.norms):
            maps = norm(convolution(maps)).relu_()
            maps = nn.functional.max_pool2d(maps, (2 if maps.shape[2] > 1 else 1, 2 if maps.shape[3] > 1 else 1))
        maps = maps.flatten(1, 2)
        pooled = cat((maps.mean(2), (maps.var(2, correction=0) + LEAST_VARIANCE).sqrt()), 1)
        if self.scale != 1:
            pooled = pooled * self.scale
        return self.head(dropped(pooled, self.dropout, self.training))  # type: ignore[no-any-return]
