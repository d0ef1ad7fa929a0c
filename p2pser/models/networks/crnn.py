"""Convolutions over bands and time, then gated recurrent units over time: the network of the family ``crnn``."""

from __future__ import annotations

import math

from torch import Tensor, nn

from p2pser.models.networks.layers import Conv2d, Linear, dropped
from p2pser.models.networks.recurrent import GRU, POOLED, Attention, padding, pooled, steps

POOL = 4
"""Number of bands over which the maximum is taken after each block."""


class CRNN(nn.Module):
    """(n, bands, frames) float32 to logits (n, classes).

    The mean of every ``stride`` frames is a step. A block: 3 x 3 convolution (the first at every second band),
    GroupNorm, ReLU, the maximum of every ``POOL`` bands (fewer where there are fewer), at each step. The remaining
    bands and channels go through a GRU, then attention, mean and standard deviation over the steps of the clip
    (not its padding), dropout, a linear head.
    """

    def __init__(self, bands: int, channels: tuple[int, ...], units: int, classes: int, *, stride: int,
                 bidirectional: bool, dropout: float) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            Conv2d(before, after, 3, stride=(1 if number else 2, 1), padding=1, bias=False)
            for number, (before, after) in enumerate(zip((1, *channels), channels)))
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(after, 8), after) for after in channels)
        bands = (bands + 1) // 2
        for _ in channels:
            bands = max(1, bands // POOL)
        outputs = units * (2 if bidirectional else 1)
        self.layer = GRU(bands * channels[-1], units, bidirectional)
        self.attention = Attention(outputs)
        self.head = Linear(POOLED * outputs, classes)
        self.stride = stride
        self.dropout = dropout

    def forward(self, features: Tensor) -> Tensor:
        frames = steps(features, self.stride)
        maps = frames.permute(1, 2, 0).unsqueeze(1)
        for convolution, norm in zip(self.convolutions, self.norms):
            maps = norm(convolution(maps)).relu_()
            maps = nn.functional.max_pool2d(maps, (min(POOL, maps.shape[2]), 1))
        states = self.layer(dropped(maps.flatten(1, 2).permute(2, 0, 1).contiguous(), self.dropout, self.training))
        clip = pooled(states, padding(frames), self.attention)
        return self.head(dropped(clip, self.dropout, self.training))  # type: ignore[no-any-return]
