"""The family ``cnn1d``."""

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


@FAMILIES.register("cnn1d")
@dataclass(frozen=True, kw_only=True)
class ConvolutionsOverTime(Family):
    """Convolutions over time, the bands of a matrix as channels.

    Group normalisation (Wu and He 2018) keeps no running statistics, and does not depend on what else is in a batch.
    """

    takes = "matrix"
    uses = ("hidden", "dropout", "stride", "kernel_size")
    defaults: ClassVar[Mapping[str, Any]] = {**OVER_TIME, "model.hidden": (64, 64, 96)}

    def build(self, model: ModelSettings, shape: tuple[int, ...], outputs: int) -> nn.Module:
        from p2pser.models.networks.cnn1d import CNN1d

        if not model.hidden:
            raise ModelError(f"model {model.name!r} needs at least one block of channels; set model.hidden=[128]")
        return CNN1d(shape[0], model.hidden, outputs, kernel_size=model.kernel_size, stride=model.stride,
                     dropout=model.dropout)
