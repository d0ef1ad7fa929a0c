"""The family ``mlp``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pser.base.registries import FAMILIES
from p2pser.models.family import Family
from p2pser.models.widths import only, scale, units

if TYPE_CHECKING:
    from torch import nn

    from p2pser.config import ModelSettings


@FAMILIES.register("mlp")
@dataclass(frozen=True, kw_only=True)
class MultiLayerPerceptron(Family):
    """A multi-layer perceptron on functionals: linear, ReLU, dropout for each width, then a linear head."""

    takes = "vector"
    uses = ("hidden", "dropout", "width", "rescale")
    narrows = True

    def build(self, model: ModelSettings, shape: tuple[int, ...], outputs: int) -> nn.Module:
        from p2pser.models.networks.mlp import MLP

        hidden = tuple(units(whole, only(model)) for whole in model.hidden)
        scales = tuple(scale(model, whole, kept) for whole, kept in zip(model.hidden, hidden))
        return MLP(shape[0], hidden, outputs, model.dropout, scales)
