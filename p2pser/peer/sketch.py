"""A short random projection of a row, from which a viewer estimates the distance of rows.

It is only for peers on one machine, through a pipe: a peer never sends it to another peer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from p2pser.base import seeding

if TYPE_CHECKING:  # the launcher, which only compares sketches, does without torch
    from torch import Tensor

BUCKETS = 256
BLOCK = 256 * BUCKETS
"""Number of entries that are converted to double precision at the same time."""


class Sketch:
    """Sums of randomly signed entries (Charikar, Chen, Farach-Colton 2002): linear, keeps norms within about 10 %.

    Entry k is added, with its sign, to bucket k mod BUCKETS. All peers of a run draw the same signs, by the seed.
    entries: which of a row's ``size`` entries count, those that all peers share; default: all.
    """

    def __init__(self, size: int, seed: int, entries: Tensor | None = None) -> None:
        import torch

        self._entries = entries
        size = size if entries is None else len(entries)
        signs = seeding.generator(seed, "sketch").choice(np.array([-1.0, 1.0]), size)
        self._signs = torch.from_numpy(signs.astype(np.int8))
        self._ones = torch.ones(BLOCK // BUCKETS, dtype=torch.float64)

    def of(self, row: Tensor) -> bytes:
        """Return the projection of a row (D,): BUCKETS numbers of double precision."""
        row = row if self._entries is None else row[self._entries]
        total = self._ones.new_zeros(BUCKETS)
        for at in range(0, row.numel(), BLOCK):
            part = row[at : at + BLOCK]
            signed = part * self._signs[at : at + BLOCK].to(part.dtype)
            rows = part.numel() // BUCKETS
            # A product with ones is twice as fast as a sum.
            total += self._ones[:rows] @ signed[: rows * BUCKETS].view(rows, BUCKETS).double()
            total[: part.numel() - rows * BUCKETS] += signed[rows * BUCKETS :]
        projected: bytes = total.numpy().tobytes()
        return projected


def consensus_distance(sketches: Sequence[bytes]) -> float:
    """Return sqrt(mean_i ||x_i - mean||^2) / ||mean|| of the rows behind the sketches."""
    rows = np.stack([np.frombuffer(sketch) for sketch in sketches])
    mean = rows.mean(axis=0)
    norm = float(np.linalg.norm(mean))
    return float(np.sqrt(((rows - mean) ** 2).sum(axis=1).mean())) / norm if norm else 0.0
