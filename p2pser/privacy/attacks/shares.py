"""The shares of emotions among a peer's clips, from the gradient of the last layer's bias."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from p2pser.models.rows import Schema


def shares(schema: Schema, update: Tensor, classes: int) -> NDArray[np.float64] | None:
    """Return the estimated shares (C,) of an update (D,); None where the last parameter is no bias of the classes.

    With cross-entropy and outputs that are nearly equal at first, the update of the bias of class c is proportional to
    its share less 1/C. The scale is chosen so that the rarest class has a share of 0.
    """
    if schema.entries[-1][1] != (classes,):
        return None
    bias = update[-classes:].numpy().astype(np.float64)
    parts = 1 / classes + bias / max(-classes * float(bias.min()), 1e-12)
    parts = np.maximum(parts, 0.0)
    total: NDArray[np.float64] = parts / parts.sum()
    return total


def true_shares(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Return the shares (C,) of labels (n,); -1 counts for none."""
    counts = np.bincount(labels[labels >= 0], minlength=classes).astype(np.float64)
    shares: NDArray[np.float64] = counts / max(1.0, counts.sum())
    return shares


def agreement(estimated: NDArray[np.float64], true: NDArray[np.float64],
              counts: NDArray[np.float64]) -> float:
    """Return the correlation of estimated and true shares (peers, C), each less the mean over the peers.

    counts : how often each peer counts. NaN where nothing varies.
    """
    ours, theirs = (values - counts @ values / counts.sum() for values in (estimated, true))
    covariance, first, second = (float(counts @ (a * b).sum(axis=1)) for a, b in
                                 ((ours, theirs), (ours, ours), (theirs, theirs)))
    return covariance / (first * second) ** 0.5 if first > 1e-12 and second > 1e-12 else float("nan")
