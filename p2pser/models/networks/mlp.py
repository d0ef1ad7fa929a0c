"""A multi-layer perceptron on functionals: linear, ReLU, dropout for each width, then a linear head."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from p2pser.models.networks.layers import Linear, dropped


class MLP(nn.Module):
    """(n, D) float32 to logits (n, classes). With D = 684 and hidden (128,) about 89 thousand parameters.

    Parameters
    ----------
    inputs, hidden, classes : the number of features, of units of each hidden layer, and of outputs.
    dropout : the probability of dropout after each hidden layer.
    scales : the factor of each hidden layer's units (``models.widths``); default: 1.
    factors : (D,), the factor of each feature; default: 1.
    """

    stacks = True
    """It takes clips (N, n, D) with the parameters of N networks, (N, …) each."""

    def __init__(self, inputs: int, hidden: tuple[int, ...], classes: int, dropout: float,
                 scales: tuple[float, ...] = (), factors: Tensor | None = None) -> None:
        super().__init__()
        # Neither a parameter nor a buffer: the settings give it, and it is not mixed.
        self.factors = factors
        widths = (inputs, *hidden)
        self.hidden = nn.ModuleList(Linear(a, b) for a, b in pairwise(widths))
        self.head = Linear(widths[-1], classes)
        self.dropout = dropout
        self.scales = scales or (1.0,) * len(hidden)

    def forward(self, features: Tensor) -> Tensor:
        if self.factors is not None:
            features = features * self.factors.to(features.device)
        for layer, factor in zip(self.hidden, self.scales):
            features = layer(features).relu_()
            if factor != 1:
                features = features * factor
            features = dropped(features, self.dropout, self.training)
        return self.head(features)  # type: ignore[no-any-return]


class Late(nn.Module):
    """(n, D) float32 to logits (n, classes): the sum of the logits of several networks, each on some of the features.

    parts : (number of consecutive features, their network).
    """

    def __init__(self, parts: Sequence[tuple[int, MLP]]) -> None:
        super().__init__()
        self.counts = [count for count, _ in parts]
        self.parts = nn.ModuleList(network for _, network in parts)

    def forward(self, features: Tensor) -> Tensor:
        logits = [part(values) for part, values in zip(self.parts, torch.split(features, self.counts, dim=1))]
        return torch.stack(logits).sum(dim=0)
