"""The settings of gossip."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from p2pser.base.errors import nearest
from p2pser.base.registries import ALGORITHMS
from p2pser.config.section import Section, shared


class GossipSettings(Section):
    """How peers mix their parameters."""

    algorithm: str = shared("dfedavg", "gossip algorithm")
    parameters: dict[str, float | int | str | bool] = shared(
        {}, "the algorithm's own hyper-parameters, by name (p2pser algorithms lists them); unset ones have their "
            "defaults")
    weighting: Literal["uniform", "clips"] = shared(
        "uniform", "weights of W. uniform: every peer counts equally (Metropolis-Hastings); clips: in proportion to "
                   "its clips")
    share: tuple[str, ...] = shared(("all",),
        "parameters that are mixed; the others never leave their peer. all; body: all except the head (the last "
        "layer); upper: all except the first layer; or patterns of their names, such as hidden.0.*,head.*",
        min_length=1)
    consensus_tolerance: float = shared(
        1e-7, "largest relative difference between any two peers at the end", gt=1e-14, lt=1)
    max_consensus_exchanges: int = shared(2000, "most exchanges of the final consensus", ge=1)

    @field_validator("algorithm")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in ALGORITHMS:  # not loaded here: algorithms import the settings
            raise ValueError(f"there is no gossip algorithm {name!r}{nearest(name, ALGORITHMS)}")
        return name
