"""Staleness-weighted gossip: asynchronous push-sum that takes stale mass in smaller parts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from p2pser.base.errors import ConfigError, RemoteProtocolError
from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.asynchronous import DRIFT, REFUSED, Asynchronous, Message, MessageKind, Place, keep
from p2pser.gossip.reading import plausible_mass
from p2pser.graph.spec import Topology
from p2pser.wire.codec import magnitude


@ALGORITHMS.register("stale-gossip")
@dataclass(frozen=True, kw_only=True)
class StaleGossip(Asynchronous):
    """Asynchronous push-sum whose arrivals are weighted by their staleness.

    Peer i holds mass (z_i, w_i), float64, w_i = 1 at first; its model is x_i = z_i / w_i. After K local steps, which
    changed x_i by g, it takes mass from each edge, adds g, and pushes 1 / (d + 1) of its mass to each of d neighbours::

        (z_i, w_i) <- (z_i, w_i) + (mass pushed by j, not yet taken) / (1 + decay max(0, s - fresh))     for each j
        z_i <- z_i + w_i g        (after taking, so that mass that was on its way during the steps gets g too)

    The staleness s is the number of i's rounds since its last push that j had received when it pushed. The rest of the
    mass on an edge is taken later; mass staler than ``bound`` returns to j with the next push, as if never sent. Pushes
    are running sums of all mass ever sent over the edge: the next push contains a lost one, copies have no effect, and
    the sums of z and of w over peers and edges are conserved. No peer waits: a peer keeps the share of a neighbour that
    has received no push of it for ``bound`` rounds. A slow peer gives mass away less often, so that its steps count for
    more and fast peers are not favoured. At the end a peer takes the mass on its edges that is within the bound; the
    rest is drift. Assumes: a connected undirected graph.

    References: D. Kempe, A. Dobra, J. Gehrke, "Gossip-Based Computation of Aggregate Information", FOCS 2003
    (push-sum); C. Xie, S. Koyejo, I. Gupta, "Asynchronous Federated Optimization", 2019 (the hinge weight).
    """

    decay: float = 0.5
    """decay of the weight with staleness beyond ``fresh``, 0 or more (0: all mass is taken at once)"""
    fresh: int = 4
    """largest staleness in rounds at which all mass is taken at once"""
    bound: int = 16
    """largest staleness in rounds at which mass is taken"""

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Refuse negative parameters and what all asynchronous algorithms refuse."""
        if not 0 <= self.decay < float("inf") or self.fresh < 0:
            raise ConfigError(f"gossip.parameters: decay = {self.decay:g}, fresh = {self.fresh}: both are 0 or more")
        return super().validate(config, topology)

    def enter(self, state: State, place: Place, clock: int) -> None:
        """Convert the model to mass of weight 1; close the edges from before a restart."""
        super().enter(state, place, clock)
        self.close(state, place, clock)
        state.rows["mass"] = torch.cat([state.rows["x"].to(torch.float64), torch.ones(1, 1, dtype=torch.float64)], 1)
        state.edges = {}
        for j in place.neighbours:
            self.renewed(state, place, j, clock)

    def renewed(self, state: State, place: Place, neighbour: int, clock: int) -> None:
        """Begin the sums of the edge at 0."""
        new = {**dict.fromkeys(("pushed", "heard", "taken"), torch.zeros_like(state.rows["mass"])),
               "last": torch.tensor([0, 0, clock, 0])}
        state.edges = {**state.edges, (place.peer, neighbour): new}

    def trained(self, state: State, place: Place, clock: int, change: Tensor) -> None:
        """Take mass from the edges, then add a round's local change, times w."""
        self._take(state, clock, self.decay)
        z, w = state.rows["mass"].tensor_split([-1], 1)
        _set(state, torch.cat([z + w * change.to(torch.float64), w], 1))

    def ready(self, state: State, place: Place, clock: int) -> list[Message]:
        """Push shares to the neighbours that received a push within ``bound`` rounds."""
        share = state.rows["mass"] / (len(place.neighbours) + 1)
        receiving = [j for j in place.neighbours if clock - int(state.edges[place.peer, j]["last"][2]) <= self.bound]
        for j in receiving:
            keep(state, (place.peer, j), pushed=state.edges[place.peer, j]["pushed"] + share)
        _set(state, state.rows["mass"] - len(receiving) * share)
        return self.remind(state, place, clock)

    def receive(self, state: State, place: Place, clock: int, message: Message) -> list[Message]:
        """Store the newest sums of a neighbour; the peer takes them at the end of its round."""
        kept = state.edges[place.peer, message.src]
        last = kept["last"].tolist()
        if message.kind is MessageKind.PUSH and [message.number, message.attempt] > last[:2]:
            came = message.row(torch.nn.functional.pad(kept["heard"], (0, 1)), largest=math.inf)
            heard, echo = came.tensor_split([-1], 1)
            if not 0 <= float(echo) <= clock:
                raise RemoteProtocolError(f"peer {message.src} acknowledged round {float(echo):g} of {clock}",
                                          message.src)
            plausible_mass(heard[0], kept["heard"][0], magnitude(state.rows["x"][0]), message.src)
            last[:3] = message.number, message.attempt, max(int(echo), last[2])
            keep(state, (place.peer, message.src), heard=heard, last=torch.tensor(last))
        return []

    def close(self, state: State, place: Place, clock: int) -> None:
        """Take all mass on the edges that is within the bound; the rest counts as drift."""
        for kept in state.edges.values():
            if clock - int(kept["last"][2]) > self.bound:
                state.rows[DRIFT] = state.rows[DRIFT] + torch.linalg.vector_norm(kept["heard"] - kept["taken"])
        self._take(state, clock, 0.0)

    def _take(self, state: State, clock: int, decay: float) -> None:
        for edge, kept in sorted(state.edges.items()):
            mass, stale = kept["heard"] - kept["taken"], clock - int(kept["last"][2])
            if mass.any() and stale > self.bound:
                state.rows[REFUSED] = state.rows[REFUSED] + 1
                keep(state, edge, taken=kept["heard"], pushed=kept["pushed"] + mass)
            elif mass.any():
                self.count(state, stale)
                part = mass / (1 + decay * max(0, stale - self.fresh))
                _set(state, state.rows["mass"] + part)
                keep(state, edge, taken=kept["taken"] + part)

    def remind(self, state: State, place: Place, clock: int) -> list[Message]:
        """Return pushes of the sums; the last ones may be lost."""
        messages = []
        for j in place.neighbours:
            kept, (number, *others, pushes) = state.edges[place.peer, j], state.edges[place.peer, j]["last"].tolist()
            keep(state, (place.peer, j), last=torch.tensor([number, *others, pushes + 1]))
            row = torch.nn.functional.pad(kept["pushed"], (0, 1), value=float(number))
            messages.append(Message(place.peer, j, MessageKind.PUSH, clock, pushes).with_row(row[0]))
        return messages


def _set(state: State, mass: Tensor) -> None:
    state.rows["mass"] = mass
    state.rows["x"] = (mass[:, :-1] / mass[:, -1:]).to(state.rows["x"].dtype)
