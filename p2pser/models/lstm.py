"""Long short-term memory over frames, with attention (Hochreiter and Schmidhuber 1997; Mirsamadi et al. 2017)."""

from __future__ import annotations

from torch import nn

from p2pser.config import ModelSettings
from p2pser.models import recurrent

SETTINGS = recurrent.SETTINGS
"""The fields of ``model`` that count."""


def make(settings: ModelSettings, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return the network with parameters yet to be drawn: see ``recurrent.Recurrent``. Raises ModelError."""
    return recurrent.make(recurrent.LSTM, settings, shape, classes)
