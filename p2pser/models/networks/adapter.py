"""Low-rank adapters in the upper layers of a frozen speech encoder: the network of the family ``adapter``."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from p2pser.features import upper_layers
from p2pser.models.networks.layers import Linear
from p2pser.models.networks.mlp import MLP


class LowRank(nn.Module):
    """A change of a weight (D, D): scale * B A. A is drawn; B is zero at the start."""

    def __init__(self, size: int, rank: int, scale: float) -> None:
        super().__init__()
        self.a = Linear(size, rank, bias=False)
        self.b = Linear(rank, size, bias=False)
        self.b.empty = True  # type: ignore[assignment]
        self.scale = scale

    def forward(self) -> Tensor:
        """Return the change (D, D)."""
        return self.scale * self.b.weight @ self.a.weight


class AdaptedEncoder(nn.Module):
    """Clips (n, F, 1, 2 + more), as ``layout`` packs them and normalised, to (n, outputs).

    With m the mean of an upper layer over the kept positions, without changes, and m' with them, the layer's standard
    score z over the whole clip becomes z + (m' - m) / std. So the network starts as a weighted sum of frozen layers
    and an mlp, and the statistics of the unchanged layers scale the changed ones too.

    The encoder is loaded at its first use, once in a process, and is not among the module's parameters.

    Parameters
    ----------
    path : the encoder's folder.
    layout : of a clip's features.
    rank, alpha : of the changes; rank 0: none.
    pooling : over time, of the upper layers: mean or attention.
    hidden, outputs, dropout : of the head.
    """

    def __init__(self, path: Path, layout: upper_layers.Layout, rank: int, alpha: float, pooling: str,
                 hidden: tuple[int, ...], outputs: int, dropout: float) -> None:
        super().__init__()
        self.path, self.layout = path, layout
        self.adapters = nn.ModuleList(
            nn.ModuleDict({name: LowRank(layout.size, rank, alpha / rank) for name in upper_layers.PROJECTIONS})
            for _ in range(layout.upper if rank else 0))
        self.weights = nn.Parameter(torch.ones(layout.layers + 1))
        self.score = Linear(layout.size, 1, bias=False) if pooling == "attention" else None
        if self.score is not None:
            self.score.empty = True  # type: ignore[assignment]
        self.head = MLP(layout.size, hidden, outputs, dropout)

    def forward(self, clips: Tensor) -> Tensor:
        scores, slopes, heard, means, states = self.layout.unpack(clips)
        if self.adapters or self.score is not None:
            upper = self.layout.upper
            changed = scores[:, -upper:] + (self.pooled(states, heard) - means) * slopes[:, -upper:]
            scores = torch.cat([scores[:, :-upper], changed], 1)
        weights = torch.softmax(self.weights, 0)
        return self.head((weights.view(-1, 1) * scores).sum(1))  # type: ignore[no-any-return]

    def pooled(self, states: Tensor, heard: Tensor) -> Tensor:
        """Return the mean over time of each changed upper layer (n, upper, D).

        states : (n, T, D), below the upper layers. heard : (n,), the number of a clip's positions that count.
        """
        changes = [{name: change() for name, change in cast(nn.ModuleDict, layer).items()} for layer in self.adapters]
        longest = int(heard.max())
        run = upper_layers.load(self.path, self.layout.layers, self.layout.upper)
        outputs = run(states[:, :longest], heard, changes)
        counts = torch.arange(longest) < heard.unsqueeze(1)
        if self.score is None:
            shares = counts / heard.unsqueeze(1)
        else:
            rated = self.score(nn.functional.layer_norm(outputs[-1], (self.layout.size,))).squeeze(-1)
            shares = torch.softmax(rated.masked_fill(~counts, -1e9), 1)
        return torch.stack([(shares.unsqueeze(-1) * output).sum(1) for output in outputs], 1)
