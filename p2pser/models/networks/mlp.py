"""A multi-layer perceptron on functionals: linear, ReLU, dropout for each width, then a linear head."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from p2pser.models.networks.layers import Linear, dropped


class MLP(nn.Module):
    """(n, D) float32 to logits (n, classes). With D = 684 and hidden (128,) about 89 thousand parameters.

    scales: the factor of each hidden layer's units (``models.widths``); default 1.
    """

    def __init__(self, inputs: int, hidden: tuple[int, ...], classes: int, dropout: float,
                 scales: tuple[float, ...] = ()) -> None:
        super().__init__()
        widths = (inputs, *hidden)
        self.hidden = nn.ModuleList(Linear(a, b) for a, b in pairwise(widths))
        self.head = Linear(widths[-1], classes)
        self.dropout = dropout
        self.scales = scales or (1.0,) * len(hidden)

    def forward(self, features: Tensor) -> Tensor:
        for layer, factor in zip(self.hidden, self.scales):
            features = layer(features).relu_()
            if factor != 1:
                features = features * factor
            features = dropped(features, self.dropout, self.training)
        return self.head(features)  # type: ignore[no-any-return]
