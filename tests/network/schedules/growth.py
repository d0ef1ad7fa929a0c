"""Schedules in which the topology file changes while the peers train."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from p2pser.graph.spec import Topology
from schedules import data
from schedules.machine import Machine, SimulatedPeer
from schedules.schedule import Schedule


class Growing(Schedule):
    """A schedule of peers that read their topology from a file, one at each peer.

    after : the later file, which may name more peers; they are not started before ``start``.
    rounds : R.
    """

    def __init__(self, seed: int, folder: Path, algorithm: str, before: Topology, after: Topology, rounds: int = 40,
                 ) -> None:
        super().__init__(seed, folder, algorithm, faults=False)
        self.before, self.topology, self.rounds, self.pace = before, after, rounds, 0.05
        self.config = self.config.with_settings([f"training.rounds={rounds}", "network.start_timeout=null"])
        self.files = dict.fromkeys(range(after.size), after) | dict.fromkeys(range(before.size), before)
        self.machines.clear()
        self.machines.update({i: Machine(i, self.world, self.network, partial(self._peer, i), self.pace)
                              for i in self.files})
        self._begins = {i: 0.01 * i if i < before.size else 1e6 for i in self.machines}

    def _begin(self) -> None:
        super()._begin()
        self.pending -= self.topology.size - self.before.size  # nothing waits for a peer that no operator starts

    def _peer(self, me: int, fresh: bool) -> SimulatedPeer:
        return SimulatedPeer(self.config, self.files[me], me, fresh=fresh,
                             federation=data.federation(me, self.topology.hub, agreed=self.agreed),
                             say=lambda sentence: self.world.note(me, "says", sentence))

    def give(self, peers: Iterable[int], file: Topology | None = None) -> None:
        """Give peers the later file (or another one), and send them SIGHUP."""
        for i in peers:
            read = self.topology if file is None else file
            self.files[i] = read
            process = self.machines[i].process
            if process is not None and process.io is not None:
                process.peer.read_again(lambda read=read: read)

    def start(self, *peers: int) -> None:
        """Start peers."""
        for i in peers:
            self._start(i, False)

    def sentences(self, peer: int) -> list[str]:
        """What a peer has said."""
        return [str(one[-1]) for one in self.world.trace if one[1:3] == (peer, "says")]
