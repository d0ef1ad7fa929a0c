"""The family ``gru``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from p2pser.base.errors import ModelError
from p2pser.base.registries import FAMILIES
from p2pser.models.family import OVER_TIME, Family
from p2pser.models.widths import only, scale, units

if TYPE_CHECKING:
    from torch import nn

    from p2pser.config import ModelSettings


@FAMILIES.register("gru")
@dataclass(frozen=True, kw_only=True)
class GatedRecurrentUnits(Family):
    """Gated recurrent units over frames, pooled over time (Cho et al. 2014; attention: Mirsamadi et al. 2017)."""

    takes = "matrix"
    uses = ("hidden", "dropout", "stride", "bidirectional", "width", "rescale")
    defaults: ClassVar[Mapping[str, Any]] = {
        **OVER_TIME, "features.kind": "contours", "model.hidden": (64,), "model.stride": 6, "training.lr": 0.008,
        "training.batch_size": 4, "training.local_steps": 20, "augment.time_masks": 2, "augment.band_masks": 2,
        "augment.band_width": 6}
    narrows = True
    layer: ClassVar[str] = "GRU"
    """The class of the recurrent layers in ``networks.recurrent``."""

    def build(self, model: ModelSettings, shape: tuple[int, ...], outputs: int) -> nn.Module:
        from p2pser.models.networks import recurrent

        if not model.hidden:
            raise ModelError(f"model {model.name!r} needs at least one recurrent layer; set model.hidden=[64]")
        hidden = tuple(units(whole, only(model)) for whole in model.hidden)
        scales = tuple(scale(model, whole, kept) for whole, kept in zip(model.hidden, hidden))
        return recurrent.Recurrent(getattr(recurrent, self.layer), shape[0], hidden, outputs, stride=model.stride,
                                   bidirectional=model.bidirectional, dropout=model.dropout, scales=scales)
