"""The family ``cnn2d``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from p2pser.base.errors import ModelError
from p2pser.base.registries import FAMILIES
from p2pser.models.family import Family
from p2pser.models.widths import only, scale, units

if TYPE_CHECKING:
    from torch import nn

    from p2pser.config import ModelSettings


@FAMILIES.register("cnn2d")
@dataclass(frozen=True, kw_only=True)
class Convolutions(Family):
    """A small convolutional network on a matrix (bands by frames), with group normalisation.

    GroupNorm (Wu and He 2018) keeps no running statistics, so nothing but parameters has to be averaged, and it does
    not depend on what else is in the batch, which differs between peers. With the default channels the network has
    about 100 thousand parameters.
    """

    takes = "matrix"
    uses = ("hidden", "dropout", "stride", "width", "rescale")
    defaults: ClassVar[Mapping[str, Any]] = {
        "features.kind": "logmel", "model.hidden": (16, 32, 64, 128), "training.optimizer": "adamw",
        "training.lr": 0.004, "training.batch_size": 4, "training.local_steps": 20}
    narrows = True

    def build(self, model: ModelSettings, shape: tuple[int, ...], outputs: int) -> nn.Module:
        from p2pser.models.networks.cnn2d import CNN2d

        if not model.hidden:
            raise ModelError("model 'cnn2d' needs at least one block of channels; set model.hidden=[16, 32, 64]")
        # A group has the same number of channels at any width: a channel's scale depends on its group alone.
        per_group = [whole // math.gcd(whole, 8) for whole in model.hidden]
        kept = tuple(units(whole, only(model), size) for whole, size in zip(model.hidden, per_group))
        groups = tuple(count // size for count, size in zip(kept, per_group))
        return CNN2d(shape[0], kept, groups, outputs, stride=model.stride, dropout=model.dropout,
                     scale=scale(model, model.hidden[-1], kept[-1]))
