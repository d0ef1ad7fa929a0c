"""A short random projection of a row, from which a watcher estimates how far rows are apart.

For the demo on one machine only, through a pipe: a peer never sends it to another peer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from p2pser.base import seeding

if TYPE_CHECKING:  # the launcher, which only compares sketches, does without torch
    from torch import Tensor

BUCKETS = 256


class Sketch:
    """Sums of randomly signed entries (Charikar, Chen, Farach-Colton 2002): linear, keeps norms within about 10 %.

    Entry k goes, with its sign, into bucket k mod BUCKETS. All peers of a run draw alike, by the seed. entries: which
    of a row's ``size`` entries count, those that all peers share; default: all.
    """

    def __init__(self, size: int, seed: int, entries: Tensor | None = None) -> None:
        import torch

        self._entries = entries
        size = size if entries is None else len(entries)
        signs = seeding.generator(seed, "sketch").choice(np.array([-1.0, 1.0]), size)
        self._signs = torch.from_numpy(signs)
        self._padded = torch.zeros(-(-size // BUCKETS) * BUCKETS, dtype=torch.float64)

    def of(self, row: Tensor) -> list[float]:
        """Return the projection of a row (D,): BUCKETS numbers."""
        row = row if self._entries is None else row[self._entries]
        self._padded[: row.numel()] = row.double() * self._signs
        projected: list[float] = self._padded.view(-1, BUCKETS).sum(dim=0).tolist()
        return projected


def consensus_distance(sketches: list[list[float]]) -> float:
    """Return sqrt(mean_i ||x_i - mean||^2) / ||mean|| of the rows behind the sketches."""
    rows = np.asarray(sketches)
    mean = rows.mean(axis=0)
    norm = float(np.linalg.norm(mean))
    return float(np.sqrt(((rows - mean) ** 2).sum(axis=1).mean())) / norm if norm else 0.0
