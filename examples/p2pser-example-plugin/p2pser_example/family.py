"""A family of models: softmax regression on a low-dimensional projection."""

from dataclasses import dataclass

import p2pser


@p2pser.register_family("softmax")
@dataclass(frozen=True, kw_only=True)
class Softmax(p2pser.Family):
    """Softmax regression of low rank."""

    takes = "vector"
    defaults = {"training.lr": 0.02}

    rank: int = 8
    """Dimensions of the projection (model.parameters.rank)."""

    def build(self, model, shape, outputs):
        """Return the network."""
        from torch import nn

        return nn.Sequential(nn.Linear(*shape, self.rank), nn.Linear(self.rank, outputs))
