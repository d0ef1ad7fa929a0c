"""The family ``mlp``."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from operator import itemgetter
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

BESIDE_OTHERS = {"covariance": 0.5}
"""Factor of kinds beside others. A covariance has twice as many entries as functionals: at the same scale it gains 1 to
2 points of UAR less beside them (inner folds of EMO-DB and RAVDESS)."""

PART = r"[1-9][0-9]{0,5}\*[0-9]+(\.[0-9]+)?"


@FAMILIES.register("mlp")
@dataclass(frozen=True, kw_only=True)
class MultiLayerPerceptron(Family):
    """A multi-layer perceptron on functionals: linear, ReLU, dropout for each width, then a linear head."""

    takes = "vector"
    uses = ("hidden", "dropout", "width", "rescale")
    narrows = True

    parts: str = ""
    """numbers of consecutive features of a clip, each with the factor of these features: 691*0.3,512*1; default: 0.3
    for the features that are joined to a speech encoder's by +, 0.5 for a covariance that is joined to others (both:
    0.15), else 1
    """

    late: str = ""
    """numbers of consecutive features with hidden layers of their own, whose logits are added: 691,258; none: all
    features share hidden layers; default: where words are joined to a voice, both have their own
    """

    def __post_init__(self) -> None:
        if self.late not in ("", "none") and not re.fullmatch("[1-9][0-9]{0,5}(,[1-9][0-9]{0,5})*", self.late):
            raise ConfigError(f"model.parameters.late = {self.late!r} must be COUNT,..., as in 691,258, or none")
        if self.parts and not re.fullmatch(f"{PART}(,{PART})*", self.parts):
            raise ConfigError(f"model.parameters.parts = {self.parts!r} must be COUNT*FACTOR,..., as in 691*0.3,512*1")

    def for_run(self, config: Config, peers: int) -> Config:
        """Return the settings with ``parts`` and ``late`` where several kinds of features are joined."""
        kinds = config.features.kinds
        if len(kinds) == 1:
            return config
        from p2pser.features.kind import kinds_of

        sizes = [(name, kind.shape()[0], kind.of_words) for name, kind in zip(kinds, kinds_of(config.features))]
        chosen = self
        factors = [_factor(name, words, "ssl" in kinds) for name, _, words in sizes]
        if not self.parts and any(factor != 1 for factor in factors):
            parts = (f"{size}*{factor:g}" for (_, size, _), factor in zip(sizes, factors))
            chosen = replace(chosen, parts=",".join(parts))
        runs = [sum(size for _, size, _ in run) for _, run in groupby(sizes, key=itemgetter(2))]
        if not self.late and len(runs) > 1:
            chosen = replace(chosen, late=",".join(map(str, runs)))
        return config if chosen is self else config.with_parameters(asdict(chosen))

    def build(self, model: ModelSettings, shape: tuple[int, ...], outputs: int) -> nn.Module:
        import torch

        from p2pser.models.networks.mlp import MLP, Late

        hidden = tuple(units(whole, only(model)) for whole in model.hidden)
        scales = tuple(scale(model, whole, kept) for whole, kept in zip(model.hidden, hidden))
        parts = [part.split("*") for part in self.parts.split(",") if part]
        late = [] if self.late in ("", "none") else [int(count) for count in self.late.split(",")]
        for name, counts in (("parts", [int(count) for count, _ in parts]), ("late", late)):
            if counts and sum(counts) != shape[0]:
                raise ModelError(f"model.parameters.{name} = {getattr(self, name)} are not the {shape[0]} features of "
                                 "a clip: leave it out, or let its counts sum up to them")
        factors = torch.cat([torch.full((int(count),), float(factor)) for count, factor in parts]) if parts else None
        if not late:
            return MLP(shape[0], hidden, outputs, model.dropout, scales, factors)
        each = [None] * len(late) if factors is None else torch.split(factors, late)
        return Late([(count, MLP(count, hidden, outputs, model.dropout, scales, own))
                     for count, own in zip(late, each)])


def _factor(kind: str, of_words: bool, beside_encoder: bool) -> float:
    """Return the factor of a kind of features that is joined to others."""
    if kind == "ssl" or of_words:
        return 1.0
    return BESIDE_OTHERS.get(kind, 1.0) * (BESIDE_ENCODER if beside_encoder else 1.0)
