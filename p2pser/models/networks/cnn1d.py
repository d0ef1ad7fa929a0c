"""Convolutions over time, the bands of a matrix as channels: the network of the families ``cnn1d``."""

from __future__ import annotations

import math

from torch import Tensor, cat, nn

from p2pser.models.networks.layers import Conv1d, Linear, dropped


class CNN1d(nn.Module):
    """(n, bands, frames) float32 to logits (n, classes).

    The mean of every ``stride`` frames is a step. A block: convolution over ``kernel_size`` steps, GroupNorm, ReLU, and
    between blocks the mean of two steps (where there are two). Then mean and maximum over time, dropout, a linear head.
    """

    def __init__(self, bands: int, channels: tuple[int, ...], classes: int, *, kernel_size: int, stride: int,
                 dropout: float) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            Conv1d(before, after, kernel_size, padding=kernel_size // 2, bias=False)
            for before, after in zip((bands, *channels), channels))
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(after, 8), after) for after in channels)
        self.head = Linear(2 * channels[-1], classes)
        self.stride = stride
        self.dropout = dropout

    def forward(self, features: Tensor) -> Tensor:
        maps = nn.functional.avg_pool1d(features, min(self.stride, features.shape[-1]))
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms)):
            if number and maps.shape[-1] > 1:
                maps = nn.functional.avg_pool1d(maps, 2)
            maps = norm(convolution(maps)).relu_()
        pooled = cat((maps.mean(2), maps.amax(2)), 1)
        return self.head(dropped(pooled, self.dropout, self.training))  # type: ignore[no-any-return]
