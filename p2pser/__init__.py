"""p2pser: decentralised, peer-to-peer gossip federated learning for speech emotion recognition."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from p2pser.base.version import __version__

if TYPE_CHECKING:
    from p2pser.inference.predictor import Predictor

__all__ = ["__version__", "load"]


def load(path: str | os.PathLike[str]) -> Predictor:
    """Return the predictor of a model directory: ``p2pser.load("model/").predict("clip.wav")``.

    Raises p2pser.base.errors.ModelError where the directory cannot be used.
    """
    from p2pser.inference.predictor import load as load_predictor

    return load_predictor(path)
