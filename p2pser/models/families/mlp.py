"""The family ``mlp``."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from p2pser.base.errors import ConfigError, ModelError
from p2pser.base.registries import FAMILIES
from p2pser.models.family import Family
from p2pser.models.widths import only, scale, units

if TYPE_CHECKING:
    from torch import nn

    from p2pser.config import Config, ModelSettings

BESIDE_ENCODER = 0.3
"""Factor of features beside those of a speech encoder. They differ more between speakers: at the same scale they cost 1
to 4 points of UAR, with this factor none (benchmarks/encoder_layers.py)."""

PART = r"[1-9][0-9]{0,5}\*[0-9]+(\.[0-9]+)?"


@FAMILIES.register("mlp")
@dataclass(frozen=True, kw_only=True)
class MultiLayerPerceptron(Family):
    """A multi-layer perceptron on functionals: linear, ReLU, dropout for each width, then a linear head."""

    takes = "vector"
    uses = ("hidden", "dropout", "width", "rescale")
    narrows = True

    parts: str = ""
    """numbers of features in a row of a clip's vector, each with the factor that they are multiplied by: 691*0.3,512*1;
    default: 0.3 for the features that are joined to a speech encoder's by +, else 1
    """

    def __post_init__(self) -> None:
        if self.parts and not re.fullmatch(f"{PART}(,{PART})*", self.parts):
            raise ConfigError(f"model.parameters.parts = {self.parts!r} must be COUNT*FACTOR,..., as in 691*0.3,512*1")

    def for_run(self, config: Config, peers: int) -> Config:
        """Return the settings with the factors of features that are joined to a speech encoder's."""
        kinds = config.features.kinds
        if self.parts or len(kinds) == 1 or "ssl" not in kinds:
            return config
        from p2pser.features.kind import kinds_of

        parts = ",".join(f"{kind.shape()[0]}*{1 if name == 'ssl' else BESIDE_ENCODER}"
                         for name, kind in zip(kinds, kinds_of(config.features)))
        return config.with_parameters(asdict(replace(self, parts=parts)))

    def build(self, model: ModelSettings, shape: tuple[int, ...], outputs: int) -> nn.Module:
        from p2pser.models.networks.mlp import MLP

        hidden = tuple(units(whole, only(model)) for whole in model.hidden)
        scales = tuple(scale(model, whole, kept) for whole, kept in zip(model.hidden, hidden))
        parts = [(int(count), float(factor)) for count, factor in
                 (part.split("*") for part in self.parts.split(",") if part)]
        if parts and sum(count for count, _ in parts) != shape[0]:
            raise ModelError(f"model.parameters.parts = {self.parts} are not the {shape[0]} features of a clip: leave "
                             "it out, or let its counts sum up to them")
        return MLP(shape[0], hidden, outputs, model.dropout, scales, parts)
