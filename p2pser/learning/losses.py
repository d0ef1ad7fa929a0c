"""What training lowers."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the mean cross entropy, a scalar, with label smoothing (Szegedy et al. 2016, section 7).

    logits: (n, classes). labels: (n,) int64. smoothing: share of each target spread evenly over all classes.
    """
    return functional.cross_entropy(logits, labels, label_smoothing=smoothing)
