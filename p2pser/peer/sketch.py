"""A short random projection of a row, by which somebody who watches can tell how far rows are apart.

For the demo on one machine only, through a pipe: a peer never sends it to another peer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from p2pser import seeding

if TYPE_CHECKING:  # the launcher, which only compares sketches, does without torch
    from torch import Tensor

BUCKETS = 256


class Sketch:
    """Count sketch (Charikar, Chen, Farach-Colton 2002): linear, and norms are kept within about 10 %.

    All peers of a run project alike: the projection is keyed by the seed.
    """

    def __init__(self, size: int, seed: int) -> None:
        import torch

        draw = seeding.generator(seed, "sketch")
        self._bucket = torch.from_numpy(draw.integers(0, BUCKETS, size))
        self._sign = torch.from_numpy(draw.choice(np.array([-1.0, 1.0]), size))

    def of(self, row: Tensor) -> list[float]:
        """Return the projection of a row (D,): BUCKETS numbers."""
        values = row.double() * self._sign
        projected: list[float] = values.new_zeros(BUCKETS).index_add_(0, self._bucket, values).tolist()
        return projected


def consensus_distance(sketches: list[list[float]]) -> float:
    """Return sqrt(mean_i ||x_i - mean||^2) / ||mean|| of the rows behind the sketches."""
    rows = np.asarray(sketches)
    mean = rows.mean(axis=0)
    norm = float(np.linalg.norm(mean))
    return float(np.sqrt(((rows - mean) ** 2).sum(axis=1).mean())) / norm if norm else 0.0
