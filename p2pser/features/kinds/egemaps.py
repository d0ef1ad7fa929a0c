"""openSMILE's extended Geneva minimalistic acoustic parameter set, eGeMAPSv02."""

from __future__ import annotations

from dataclasses import dataclass

from p2pser.base.registries import FEATURES
from p2pser.features.opensmile_sets import OpenSmileSet


@FEATURES.register("egemaps")
@dataclass(frozen=True, kw_only=True)
class Egemaps(OpenSmileSet):
    """openSMILE's eGeMAPSv02: 88 functionals."""

    set_name = "eGeMAPSv02"
    prefix = "egemaps"
    size = 88
