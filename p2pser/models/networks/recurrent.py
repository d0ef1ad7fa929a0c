"""Recurrent networks over the frames of a matrix, pooled over time: families ``gru`` and ``lstm``.

Recurrent networks with attention pooling for speech emotion: Mirsamadi et al. 2017.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from p2pser.models.networks.layers import LEAST_VARIANCE, Linear, Undrawn, dropped

ALIKE = 1e-3
"""Frames whose features differ by less, in standard deviations, count as the same digital silence."""

HIDDEN = -1e4
"""Score of a state without weight."""

POOLED = 3
"""Vectors side by side in what is pooled over time."""


class GRU(Undrawn, nn.GRU):
    """torch.nn.GRU of one layer, (T, n, inputs) to (T, n, hidden), twice as wide where bidirectional."""

    def __init__(self, inputs: int, hidden: int, bidirectional: bool) -> None:
        super().__init__(inputs, hidden, bidirectional=bidirectional)
        self.bound = 1 / math.sqrt(hidden)

    def forward(self, inputs: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(inputs)[0]


class LSTM(Undrawn, nn.LSTM):
    """torch.nn.LSTM of one layer, (T, n, inputs) to (T, n, hidden), twice as wide where bidirectional."""

    def __init__(self, inputs: int, hidden: int, bidirectional: bool) -> None:
        super().__init__(inputs, hidden, bidirectional=bidirectional)
        self.bound = 1 / math.sqrt(hidden)

    def drawn_(self) -> None:
        """Set the biases of the forget gates to 1, so that gradients pass many steps (Jozefowicz et al. 2015)."""
        for name, parameter in self.named_parameters():
            if name.startswith("bias_ih"):
                parameter[self.hidden_size : 2 * self.hidden_size] = 1.0

    def forward(self, inputs: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(inputs)[0]


class Attention(nn.Module):
    """Mean of states (T, n, H) over time, weighted by the softmax of a linear score of each: (n, H).

    padding : (T, n), True for states without weight; in a clip that is all padding all states have weight.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.score = Linear(inputs, 1, bias=False)

    def forward(self, states: Tensor, padding: Tensor) -> Tensor:
        scores = self.score(states).squeeze(-1)
        weights = torch.softmax(scores.masked_fill(padding & ~padding.all(0), HIDDEN), 0)
        return (weights.unsqueeze(-1) * states).sum(0)


def pooled(states: Tensor, padding: Tensor, attention: Attention) -> Tensor:
    """Return the weighted mean, the mean and the standard deviation over time of states (T, n, H) side by side:
    (n, ``POOLED`` H). With attention alone only few steps of a clip have a gradient, and learning is slow.

    padding : as of ``Attention``.
    """
    counted = (~padding | padding.all(0)).unsqueeze(-1).to(states.dtype)
    steps = counted.sum(0)
    mean = (states * counted).sum(0) / steps
    variance = ((states - mean) ** 2 * counted).sum(0) / steps
    return torch.cat((attention(states, padding), mean, (variance + LEAST_VARIANCE).sqrt()), 1)


def padding(frames: Tensor) -> Tensor:
    """Return (T, n) bool for frames (T, n, bands): True in a run of two or more equal frames at a clip's start or end.

    Clips shorter than ``features.seconds`` are padded with digital silence at both ends, whose frames are all equal. So
    the features show the padding, in predictions as in training.
    """
    padded = torch.zeros(frames.shape[:2], dtype=torch.bool, device=frames.device)
    if len(frames) > 1:
        for ordered in (frames, frames.flip(0)):
            other = ((ordered - ordered[:1]).abs() > ALIKE).any(-1)
            run = other.long().cumsum(0) == 0
            run = run & run[1:2]
            padded = padded | (run if ordered is frames else run.flip(0))
    return padded


class Recurrent(nn.Module):
    """(n, bands, frames) float32 to logits (n, classes).

    The mean of every ``stride`` frames is a step; recurrent layers of these widths; attention, mean and standard
    deviation over the steps of the clip (not its padding); dropout before each layer but the first, and before the
    linear head. scales : the factor of each layer's states (``models.widths``); default: 1.
    """

    def __init__(self, layer: type[GRU | LSTM], bands: int, hidden: tuple[int, ...], classes: int, *, stride: int,
                 bidirectional: bool, dropout: float, scales: tuple[float, ...] = ()) -> None:
        super().__init__()
        outputs = [width * (2 if bidirectional else 1) for width in hidden]
        self.layers = nn.ModuleList(
            layer(before, width, bidirectional) for before, width in zip([bands, *outputs], hidden))
        self.attention = Attention(outputs[-1])
        self.head = Linear(POOLED * outputs[-1], classes)
        for reader in (*self.layers[1:], self.attention.score, self.head):
            reader.sources = 2 if bidirectional else 1
        self.head.sources *= POOLED
        self.stride = stride
        self.dropout = dropout
        self.scales = scales or (1.0,) * len(hidden)

    def forward(self, features: Tensor) -> Tensor:
        frames = steps(features, self.stride)
        states = frames
        for number, layer in enumerate(self.layers):
            states = layer(dropped(states, self.dropout, self.training) if number else states)
            if self.scales[number] != 1:
                states = states * self.scales[number]
        clip = pooled(states, padding(frames), self.attention)
        return self.head(dropped(clip, self.dropout, self.training))  # type: ignore[no-any-return]


def steps(features: Tensor, stride: int) -> Tensor:
    """Return the means (T, n, bands) of every ``stride`` frames of (n, bands, frames), without incomplete ones."""
    stride = min(stride, features.shape[-1])
    if stride > 1:
        features = nn.functional.avg_pool1d(features, stride)
    return features.permute(2, 0, 1).contiguous()
