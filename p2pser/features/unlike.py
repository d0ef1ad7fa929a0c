"""How unlike recordings are to those of a training: of several together, and of each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from p2pser.features.normalisation import Statistics, known_by, vectors

FEWEST = 3
"""Recordings from which their common conditions are judged."""

OUTSIDE = 4.0
"""A ``departure`` from the training that no speaker makes under the same conditions: 9 in 10 sets of clips of unknown
speakers of the training's corpus stay below 3.5, also where they share one emotion."""

USUAL = 1.7
"""A ``departure`` that 9 in 10 sets of clips of various emotions of unknown speakers stay below."""

FLATTENING = 3
"""Power of a clip's distance by which its logits are divided beyond the training's distance."""

FAR = 1.5
"""A distance that 1 in 20 clips of the training's corpus exceeds."""


def conditions(features: NDArray[np.float32], training: Statistics) -> Statistics | None:
    """Return the common statistics of recordings that are unlike those of the training: another microphone, room or
    language shifts the features of all of them.

    None where they are not, where they are fewer than ``FEWEST``, and for matrices. That is no statement about one
    speaker, so ``heard`` is 0. It supposes that the recordings hold various emotions.

    features : (n, …), not scaled.
    """
    if vectors(features).ndim != 2 or len(features) < FEWEST:
        return None
    common = known_by(features, training)
    return None if common.unlike < OUTSIDE else replace(common, heard=0)


def doubt(own: Statistics) -> float:
    """Return how little a temperature that was fitted under the conditions of the training says of clips of which these
    are the statistics: 0 where they are like those of the training, 1 from ``OUTSIDE`` on.
    """
    return float(np.clip((own.unlike - USUAL) / (OUTSIDE - USUAL), 0.0, 1.0))


def distances(scaled: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return how far clips (n, …) are from those of the training, (n,): the root mean square of their scaled features.

    Over the clips of the training the mean of its square is 1 where the training's statistics scale them.
    """
    values = vectors(scaled)
    return np.asarray(np.sqrt(np.square(values).reshape(len(values), -1).mean(axis=1)), dtype=np.float64)


def flattening(scaled: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return what the logits of n clips are divided by, beside their temperature: 1, and more for clips that lie
    further from the training than its own, of which a model knows little. 1 for matrices.
    """
    if vectors(scaled).ndim != 2:
        return np.ones(len(scaled))
    return np.maximum(1.0, distances(scaled)) ** FLATTENING
