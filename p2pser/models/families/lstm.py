"""The family ``lstm``."""

from __future__ import annotations

from dataclasses import dataclass

from p2pser.base.registries import FAMILIES
from p2pser.models.families.gru import GatedRecurrentUnits


@FAMILIES.register("lstm")
@dataclass(frozen=True, kw_only=True)
class LongShortTermMemory(GatedRecurrentUnits):
    """Long short-term memory over frames, pooled over time (Hochreiter and Schmidhuber 1997; as ``gru``)."""

    layer = "LSTM"
