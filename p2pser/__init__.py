"""p2pser: decentralised, peer-to-peer gossip federated learning for speech emotion recognition."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from p2pser.version import __version__

if TYPE_CHECKING:
    from p2pser.learning.predictor import Predictor

__all__ = ["__version__", "load"]


def load(path: str | os.PathLike[str]) -> Predictor:
    """Return the predictor of a model directory: ``p2pser.load("model/").predict("clip.wav")``.

    Raises p2pser.errors.ModelError where the directory cannot be used.
    """
    from p2pser.learning.predictor import load as load_predictor

    return load_predictor(path)
