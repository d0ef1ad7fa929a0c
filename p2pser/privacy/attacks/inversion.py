"""The features of single clips, read from the update of the first layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2pser.privacy.attacks.layers import NEGLIGIBLE


def candidates(matrix: NDArray[np.float64], seen: NDArray[np.bool_]
               ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the inputs (k, F) that an update [W b] (H, F + 1) of the first layer speaks for, 0 where it does not, and
    where it does (k, F).

    For each unit the row of W's update divided by b's is a weighted mean of the inputs of the clips that moved the
    unit, and the input itself where there was only one such clip (L. T. Phong et al., IEEE TIFS 13, 2018, section III).

    seen : (H, F + 1), which entries of the update are known; the others are 0.
    """
    shares = matrix[:, -1]
    told = np.abs(shares) > NEGLIGIBLE * np.abs(shares).max(initial=0.0)
    return matrix[told, :-1] / shares[told, None], seen[told, :-1]


def likeness(inputs: NDArray[np.float64], seen: NDArray[np.bool_], features: NDArray[np.float32]
             ) -> NDArray[np.float64]:
    """Return for each clip's features (n, F) its largest cosine with one of the inputs (k, F), over the entries that
    are ``seen`` (k, F) of it; 0 where k = 0.
    """
    clips = features.astype(np.float64)
    lengths = np.linalg.norm(inputs, axis=1) * np.sqrt(clips**2 @ seen.T)
    largest: NDArray[np.float64] = (clips @ inputs.T / np.maximum(lengths, 1e-12)).max(1, initial=0.0)
    return largest
