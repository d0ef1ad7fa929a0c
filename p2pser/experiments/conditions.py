"""The conditions of a trial: what goes wrong in it, and what its steps and messages cost in simulated seconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import Field, field_validator

from p2pser.base import seeding
from p2pser.base.errors import ConfigError, nearest
from p2pser.config import Config
from p2pser.config.section import Section
from p2pser.gossip.attacks import ATTACKS, Attack
from p2pser.graph.spec import Topology
from p2pser.simulation.clock import preset
from p2pser.simulation.mixer import Faults
from p2pser.simulation.scenario import Scenario


class FaultSettings(Section):
    """What goes wrong in a trial; by default nothing. Which peers are struck is drawn by the trial's seed."""

    deaths: int = Field(0, ge=0, description="peers that die")
    at: int | None = Field(None, ge=0, description="the round before which they die; default: in the middle")
    loss: float = Field(0.0, ge=0, lt=1, description="the share of messages that never arrive")
    delay: float = Field(0.0, ge=0, lt=1, description="the share of messages that arrive 1 to 4 exchanges late")
    absences: int = Field(0, ge=0, description="peers that leave once and come back; they train on meanwhile")
    absence_rounds: int = Field(5, ge=1, description="the rounds for which they are away")
    hostile: int = Field(0, ge=0, description="peers that send manipulated parameters")
    attack: str = Field("sign-flip", description="by which attack")

    @field_validator("attack")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in ATTACKS:
            raise ValueError(f"there is no attack {name!r}{nearest(name, ATTACKS)}")
        return name

    @property
    def harmless(self) -> bool:
        """Whether nothing goes wrong."""
        return not (self.deaths or self.loss or self.delay or self.absences or self.hostile)


@dataclass(frozen=True)
class Conditions:
    """The faults of a trial, the links of its peers, and the seconds of a local step."""

    fault: FaultSettings = field(default_factory=FaultSettings)
    network: str = "wan"
    step_seconds: float = 0.05

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for the digest of a kept result. With hostile peers it also names the models whose outputs
        are kept: earlier results have those of another one.
        """
        models = {"models": "of each honest peer"} if self.fault.hostile else {}
        return {**asdict(self), "fault": self.fault.model_dump(mode="json"), **models}

    def require(self, config: Config, topology: Topology) -> None:
        """Raise ConfigError where the faults need more peers or rounds than there are, or the network is not known."""
        fault, peers = self.fault, topology.size - (topology.hub is not None)
        struck = fault.deaths + fault.absences + fault.hostile
        if struck >= peers:
            raise ConfigError(f"faults strike {struck} of the {peers} peers that hold clips on {topology.name}: at "
                              "least one must remain")
        if fault.deaths and fault.at is not None and fault.at > config.training.rounds:
            raise ConfigError(f"faults: at = {fault.at}: the peers would die after the last round: must be at most "
                              f"training.rounds = {config.training.rounds}")
        if fault.absences and fault.absence_rounds >= config.training.rounds:
            raise ConfigError(f"faults: absence_rounds = {fault.absence_rounds}: must be less than training.rounds = "
                              f"{config.training.rounds}")
        preset(self.network, step_s=self.step_seconds)

    def scenario(self, config: Config, topology: Topology) -> Scenario:
        """Return what happens in the run with this seed: the same peers are struck on every topology."""
        fault, rounds = self.fault, config.training.rounds
        draw = seeding.generator(config.seed, "faults of a trial")
        others = [i for i in range(topology.size) if i != topology.hub]
        struck = iter([int(i) for i in draw.permutation(others)])
        dies = rounds // 2 if fault.at is None else fault.at
        dead = {next(struck): dies for _ in range(fault.deaths)}
        hostile = {next(struck): Attack(fault.attack) for _ in range(fault.hostile)}
        away = {next(struck): 1 + int(draw.integers(max(1, rounds - fault.absence_rounds)))
                for _ in range(fault.absences)}
        faults = Faults(loss=fault.loss, delay=fault.delay, seed=config.seed) if fault.loss or fault.delay else None
        return Scenario(dead={**dead, **away}, back={peer: leaves + fault.absence_rounds
                                                     for peer, leaves in away.items()},
                        faults=faults, hostile=hostile,
                        clock=preset(self.network, step_s=self.step_seconds, seed=config.seed))
