"""The features of single clips, read from the update of the first layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2pser.privacy.attacks.layers import NEGLIGIBLE


def candidates(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inputs (k, F) that an update [W b] (H, F + 1) of the first layer speaks for.

    For each unit the row of W's update divided by b's is a weighted mean of the inputs of the clips that moved the
    unit, and the input itself where there was only one such clip (L. T. Phong et al., IEEE TIFS 13, 2018, section III).
    """
    shares = matrix[:, -1]
    told = np.abs(shares) > NEGLIGIBLE * np.abs(shares).max(initial=0.0)
    inputs: NDArray[np.float64] = matrix[told, :-1] / shares[told, None]
    return inputs


def likeness(inputs: NDArray[np.float64], features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return for each clip's features (n, F) its largest cosine with one of the inputs (k, F); 0 where k = 0."""
    def directions(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        unit: NDArray[np.float64] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return unit

    largest: NDArray[np.float64] = (directions(features.astype(np.float64)) @ directions(inputs).T).max(1, initial=0.0)
    return largest
