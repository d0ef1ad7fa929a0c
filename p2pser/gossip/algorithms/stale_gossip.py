"""Staleness-weighted gossip: push what you have, take what is there, the staler the less at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from p2pser.base.errors import ConfigError, RemoteProtocolError
from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.asynchronous import DRIFT, REFUSED, Asynchronous, Message, MessageKind, Place, keep
from p2pser.topology.spec import Topology


@ALGORITHMS.register("stale-gossip")
@dataclass(frozen=True, kw_only=True)
class StaleGossip(Asynchronous):
    """Asynchronous push-sum whose arrivals are weighted by their staleness.

    Peer i holds mass (z_i, w_i), float64, w_i = 1 at first; its model is x_i = z_i / w_i. After K local steps, which
    changed x_i by g, it takes what is there of each neighbour j, adds g, and pushes 1 / (d + 1) to each of d::

        (z_i, w_i) <- (z_i, w_i) + (what j pushed and i has not taken yet) / (1 + decay max(0, s - fresh))  for each j
        z_i <- z_i + w_i g        (after taking: what is on its way while i trains must learn too)

    s, the staleness: i's rounds since the push of its own that j had last seen when it pushed. What the weight leaves
    is taken later; what is staler than ``bound`` goes back to j with the next push, as if it had never been sent.
    Pushes are running sums (all mass ever sent over the edge): a lost one is in the next, copies change nothing, and
    the sums of z and of w over peers and edges are conserved. Nobody waits: of whom a neighbour has seen nothing for
    ``bound`` rounds, that one keeps its share. A slow peer gives mass away less often: its steps count for more, the
    fast are not favoured. What is on an edge at the end is taken if within the bound, else it is drift. Assumes: a
    connected undirected graph. References: D. Kempe, A. Dobra, J. Gehrke, "Gossip-Based Computation of Aggregate
    Information", FOCS 2003 (push-sum); C. Xie, S. Koyejo, I. Gupta, "Asynchronous Federated Optimization", 2019 (the
    hinge weight).
    """

    decay: float = 0.5
    """how fast the weight falls with staleness beyond ``fresh``, 0 or more (0: all is taken at once)"""
    fresh: int = 4
    """rounds of staleness up to which all is taken at once"""
    bound: int = 16
    """rounds of staleness beyond which nothing is taken"""

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Refuse negative parameters and what no asynchronous algorithm can do."""
        if not 0 <= self.decay < float("inf") or self.fresh < 0:
            raise ConfigError(f"gossip.parameters: decay = {self.decay:g}, fresh = {self.fresh}: both are 0 or more")
        return super().validate(config, topology)

    def enter(self, state: State, place: Place, clock: int) -> None:
        """Make mass of the models, each of weight 1; close the edges of an earlier life."""
        super().enter(state, place, clock)
        self.close(state, place, clock)
        state.rows["mass"] = torch.cat([state.rows["x"].to(torch.float64), torch.ones(1, 1, dtype=torch.float64)], 1)
        new = {**dict.fromkeys(("pushed", "heard", "taken"), torch.zeros_like(state.rows["mass"])),
               "last": torch.tensor([0, 0, clock, 0])}
        state.edges = {(place.peer, j): new for j in place.neighbours}

    def trained(self, state: State, place: Place, clock: int, change: Tensor) -> None:
        """Take what is there, then add a round's local change to the model: w times as much to the mass."""
        self._take(state, clock, self.decay)
        z, w = state.rows["mass"].tensor_split([-1], 1)
        _set(state, torch.cat([z + w * change.to(torch.float64), w], 1))

    def ready(self, state: State, place: Place, clock: int) -> list[Message]:
        """Push shares to those who still hear."""
        share = state.rows["mass"] / (len(place.neighbours) + 1)
        hearing = [j for j in place.neighbours if clock - int(state.edges[place.peer, j]["last"][2]) <= self.bound]
        for j in hearing:
            keep(state, (place.peer, j), pushed=state.edges[place.peer, j]["pushed"] + share)
        _set(state, state.rows["mass"] - len(hearing) * share)
        return self.remind(state, place, clock)

    def receive(self, state: State, place: Place, clock: int, message: Message) -> list[Message]:
        """Remember the newest sums of a neighbour; they are taken when this peer's round is done."""
        kept = state.edges[place.peer, message.src]
        last = kept["last"].tolist()
        if message.kind is MessageKind.PUSH and [message.number, message.attempt] > last[:2]:
            heard, echo = message.row(torch.nn.functional.pad(kept["heard"], (0, 1))).tensor_split([-1], 1)
            if not 0 <= float(echo) <= clock:
                raise RemoteProtocolError(f"peer {message.src} has seen round {float(echo):g} of {clock}", message.src)
            last[:3] = message.number, message.attempt, max(int(echo), last[2])
            keep(state, (place.peer, message.src), heard=heard, last=torch.tensor(last))
        return []

    def close(self, state: State, place: Place, clock: int) -> None:
        """Take all that is there and not too stale; the rest of it counts as drift."""
        for kept in state.edges.values():
            if clock - int(kept["last"][2]) > self.bound:
                state.rows[DRIFT] = state.rows[DRIFT] + torch.linalg.vector_norm(kept["heard"] - kept["taken"])
        self._take(state, clock, 0.0)

    def _take(self, state: State, clock: int, decay: float) -> None:
        for edge, kept in sorted(state.edges.items()):
            there, stale = kept["heard"] - kept["taken"], clock - int(kept["last"][2])
            if there.any() and stale > self.bound:
                state.rows[REFUSED] = state.rows[REFUSED] + 1
                keep(state, edge, taken=kept["heard"], pushed=kept["pushed"] + there)
            elif there.any():
                self.count(state, stale)
                part = there / (1 + decay * max(0, stale - self.fresh))
                _set(state, state.rows["mass"] + part)
                keep(state, edge, taken=kept["taken"] + part)

    def remind(self, state: State, place: Place, clock: int) -> list[Message]:
        """Push the sums (again: the last push may be lost)."""
        said = []
        for j in place.neighbours:
            kept, (number, *others, pushes) = state.edges[place.peer, j], state.edges[place.peer, j]["last"].tolist()
            keep(state, (place.peer, j), last=torch.tensor([number, *others, pushes + 1]))
            row = torch.nn.functional.pad(kept["pushed"], (0, 1), value=float(number))
            said.append(Message(place.peer, j, MessageKind.PUSH, clock, pushes).with_row(row[0]))
        return said


def _set(state: State, mass: Tensor) -> None:
    state.rows["mass"] = mass
    state.rows["x"] = (mass[:, :-1] / mass[:, -1:]).to(state.rows["x"].dtype)
