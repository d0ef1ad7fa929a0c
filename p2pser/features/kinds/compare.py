"""openSMILE's feature set of the ComParE challenge of 2016."""

from __future__ import annotations

from dataclasses import dataclass

from p2pser.base.registries import FEATURES
from p2pser.features.opensmile_sets import OpenSmileSet


@FEATURES.register("compare")
@dataclass(frozen=True, kw_only=True)
class Compare(OpenSmileSet):
    """openSMILE's ComParE 2016: 6,373 functionals."""

    set_name = "ComParE_2016"
    prefix = "compare"
    size = 6373
