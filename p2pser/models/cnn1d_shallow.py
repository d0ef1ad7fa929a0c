"""One convolution over time: ``cnn1d`` with a single block."""

from __future__ import annotations

from p2pser.models.cnn1d import SETTINGS, make

__all__ = ["SETTINGS", "make"]
