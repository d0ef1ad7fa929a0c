"""The family ``crnn``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from p2pser.base.errors import ModelError
from p2pser.base.registries import FAMILIES
from p2pser.models.family import OVER_TIME, Family

if TYPE_CHECKING:
    from torch import nn

    from p2pser.config import ModelSettings


@FAMILIES.register("crnn")
@dataclass(frozen=True, kw_only=True)
class ConvolutionsAndRecurrence(Family):
    """Convolutions and a recurrent layer, with attention.

    The convolutions are over bands and time, the gated recurrent units over time.
    """

    takes = "matrix"
    uses = ("hidden", "dropout", "stride", "bidirectional")
    defaults: ClassVar[Mapping[str, Any]] = {**OVER_TIME, "features.kind": "logmel", "model.hidden": (16, 32, 48)}

    def build(self, model: ModelSettings, shape: tuple[int, ...], outputs: int) -> nn.Module:
        from p2pser.models.networks.crnn import CRNN

        if len(model.hidden) < 2:
            raise ModelError("model 'crnn' needs channels of at least one block, then the width of its recurrent "
                             "layer; set model.hidden=[16, 32, 48]")
        *channels, units = model.hidden
        return CRNN(shape[0], tuple(channels), units, outputs, stride=model.stride,
                    bidirectional=model.bidirectional, dropout=model.dropout)
