"""The family ``cnn1d-shallow``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from p2pser.base.registries import FAMILIES
from p2pser.models.families.cnn1d import ConvolutionsOverTime
from p2pser.models.family import OVER_TIME


@FAMILIES.register("cnn1d-shallow")
@dataclass(frozen=True, kw_only=True)
class OneConvolutionOverTime(ConvolutionsOverTime):
    """One convolution over time: ``cnn1d`` with a single block."""

    defaults: ClassVar[Mapping[str, Any]] = {**OVER_TIME, "model.hidden": (128,)}
