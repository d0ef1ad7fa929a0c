"""The conditions of a simulated run: failures of peers and messages, hostile peers, and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.features.federation import Federation
from p2pser.gossip.algorithm import Algorithm
from p2pser.gossip.attacks import Attack
from p2pser.graph.spec import Topology
from p2pser.simulation.churn import Churn
from p2pser.simulation.clock import Clock
from p2pser.simulation.mixer import Faults


@dataclass(frozen=True)
class Scenario:
    """The conditions of a simulated run; by default there are no failures and no simulated time.

    dead : {peer: round}: from the start of that round on the peer neither sends nor receives.
    back : {peer: round}: a dead peer takes part again from that round on; meanwhile it trained alone.
    faults : of single messages.
    hostile : {peer: attack}: the source of what it sends instead of its rows, in the rounds only. A hostile peer is
        honest in the set-up, and there is no final consensus, whose result a single hostile row would determine.
    clock : the simulated time of local steps and messages; asynchronous algorithms run by it (default there: a LAN, all
        peers equally fast).
    churn : peers that leave and return by the clock. After the last round absent peers return, unless they have left
        for good.
    """

    dead: Mapping[int, int] = field(default_factory=dict)
    back: Mapping[int, int] = field(default_factory=dict)
    faults: Faults | None = None
    hostile: Mapping[int, Attack] = field(default_factory=dict)
    clock: Clock | None = None
    churn: Churn | None = None

    def living(self, topology: Topology) -> tuple[int, ...]:
        """Return the honest peers that never die, or return, ascending.

        Raises ConfigError for a peer that does not exist, and where no honest peer remains.
        """
        peers = topology.size
        gone = self.churn.gone if self.churn else frozenset()
        living = tuple(i for i in range(peers) if (i not in self.dead or i in self.back) and i not in self.hostile
                       and i not in gone)
        strange = sorted(i for i in {*self.dead, *self.hostile} if not 0 <= i < peers)
        if strange:
            raise ConfigError(f"there is no peer {strange[0]} that could die or be hostile: the peers are 0 to "
                              f"{peers - 1}")
        if not living:
            raise ConfigError(f"each of the {peers} peers dies or is hostile: an honest peer must remain")
        return living

    def validate(self, config: Config, topology: Topology, federation: Federation, algorithm: Algorithm) -> None:
        """Raise ConfigError where the topology does not fit the federation, a peer would die after the end, or hostile
        peers have no rows to replace.
        """
        if sorted(federation.train) != list(range(topology.size)):
            raise ConfigError(f"the topology {topology.name!r} has {topology.size} peers and the corpus was "
                              f"partitioned over {len(federation.train)}")
        if topology.hub is not None and len(federation.train[topology.hub]):
            raise ConfigError(f"peer {topology.hub} is a hub, which trains nothing, and has clips: federate with hub")
        late = {peer: round for peer, round in self.dead.items() if round > config.training.rounds}
        if late:
            peer, round = next(iter(late.items()))
            last = config.training.rounds
            raise ConfigError(f"peer {peer} cannot die before round {round}: training.rounds = {last}, so give a round "
                              f"from 0 to {last} (the last: before the final consensus)")
        if self.churn is not None and self.clock is None:
            raise ConfigError("peers leave and come back by the simulated time: give the scenario a clock")
        if (self.back or self.churn) and algorithm.asynchronous:
            raise ConfigError(f"gossip.algorithm={config.gossip.algorithm} has no rounds in common, and peers that "
                              "come back are simulated by rounds: take a synchronous algorithm")
        if not self.hostile:
            return
        if algorithm.asynchronous or algorithm.served or algorithm.boosts:
            raise ConfigError(f"gossip.algorithm={config.gossip.algorithm} exchanges no rows that hostile peers could "
                              "replace: take one that mixes rows, such as dfedavg or median")
        if len(set(config.model.width)) > 1 or config.gossip.share != ("all",):
            raise ConfigError("hostile peers are simulated among peers that exchange whole rows: set model.width=1 and "
                              "gossip.share=all")
