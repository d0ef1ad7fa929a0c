"""The family ``lstm``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pser.base.registries import FAMILIES
from p2pser.models.families.gru import GatedRecurrentUnits

if TYPE_CHECKING:
    from p2pser.models.networks.recurrent import GRU, LSTM


@FAMILIES.register("lstm")
@dataclass(frozen=True, kw_only=True)
class LongShortTermMemory(GatedRecurrentUnits):
    """Long short-term memory over frames, pooled over time (Hochreiter and Schmidhuber 1997; as ``gru``)."""

    def layer(self) -> type[GRU | LSTM]:
        """Return the class of the recurrent layers."""
        from p2pser.models.networks.recurrent import LSTM

        return LSTM
