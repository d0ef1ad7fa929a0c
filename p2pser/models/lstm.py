"""Long short-term memory (Hochreiter and Schmidhuber 1997, with forget gates) over frames, with attention pooling."""

from __future__ import annotations

from torch import nn

from p2pser.config import ModelSettings
from p2pser.models import recurrent


def make(settings: ModelSettings, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return the network with parameters yet to be drawn: see ``recurrent.Recurrent``. Raises ModelError."""
    return recurrent.make(recurrent.LSTM, settings, shape, classes)
