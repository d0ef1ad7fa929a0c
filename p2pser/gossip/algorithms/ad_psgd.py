"""Asynchronous decentralised parallel SGD: pairs of peers average without common rounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from p2pser.base import seeding
from p2pser.base.errors import ConfigError
from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.asynchronous import DRIFT, REFUSED, Asynchronous, Message, MessageKind, Place, keep
from p2pser.graph.spec import Topology


@ALGORITHMS.register("ad-psgd")
@dataclass(frozen=True, kw_only=True)
class ADPSGD(Asynchronous):
    """Asynchronous decentralised parallel SGD (AD-PSGD), in flow form.

    After K local steps from a copy of its row, peer i adds their change to its present row and sends a request to a
    random neighbour j, with a = x_i. The receiver reads b = x_j, replies with b and adds its half at once; the
    initiator adds its half when the reply arrives, to its row at that time::

        x_j <- x_j + w (a - b),        x_i <- x_i + w (b - a)        (w = ``weight``, 1/2: the mean of the two)

    Both halves are of the same two rows: the mean of all rows is conserved through any interleaving, without locks. A
    peer initiates one exchange at a time and repeats its request if the reply may be lost; the repeated reply is the
    same. After ``bound`` rounds without a reply it withdraws: the receiver refuses the exchange for good, or repeats
    its reply if it has applied the exchange. Until then the initiator takes no further step.

    Assumes: a connected undirected graph. An exchange that is open at the end of the run, or after the checkpoint from
    which a run resumes, may have moved the mean by one half (where a receiver detects it, it counts as drift).

    Reference: X. Lian, W. Zhang, C. Zhang, J. Liu, "Asynchronous Decentralized Parallel Stochastic Gradient Descent",
    ICML 2018 (there with a lock on the pair, on bipartite graphs).
    """

    weight: float = 0.5
    """w, in (0, 1/2]"""
    bound: int = 8
    """most rounds of the initiator between request and reply"""

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Refuse weights outside (0, 1/2] and what all asynchronous algorithms refuse."""
        if not 0 < self.weight <= 0.5:
            raise ConfigError(f"gossip.parameters.weight = {self.weight:g}: each end of an exchange takes more than 0 "
                              "and at most 0.5 of the other row")
        return super().validate(config, topology)

    def enter(self, state: State, place: Place, clock: int) -> None:
        """Forget answers to exchanges that the resume undoes: those of numbers above ``clock``."""
        super().enter(state, place, clock)
        for edge, kept in list(state.edges.items()):
            if "answered" in kept and int(kept["answered"]) > clock:
                state.rows[DRIFT] = state.rows[DRIFT] + kept["flow"]
                keep(state, edge, answered=None, reply=None, flow=None)

    def ready(self, state: State, place: Place, clock: int) -> list[Message]:
        """Send a request to a neighbour drawn by (seed, peer, clock), unless an exchange is open."""
        if self.open(state, place) or not place.neighbours:
            return []
        j = int(seeding.generator(place.seed, self.name, place.peer, clock).choice(place.neighbours))
        row = state.rows["x"].clone()
        keep(state, (place.peer, j), asked=row, number=torch.tensor([clock, 0]))
        return [Message(place.peer, j, MessageKind.REQUEST, clock).with_row(row[0])]

    def receive(self, state: State, place: Place, clock: int, message: Message) -> list[Message]:
        """Answer a request or a withdrawal, each copy alike; apply a reply once."""
        edge = (place.peer, message.src)
        kept = state.edges.get(edge, {})
        if message.kind in (MessageKind.REPLY, MessageKind.REFUSAL):
            if "number" in kept and int(kept["number"][0]) == message.number:
                if message.kind is MessageKind.REPLY:
                    self._flow(state, kept["asked"], message.row(kept["asked"]), clock - message.number)
                else:
                    state.rows[REFUSED] = state.rows[REFUSED] + 1
                keep(state, edge, asked=None, number=None)
            return []
        last = int(kept["answered"]) if "answered" in kept else 0
        if message.kind not in (MessageKind.REQUEST, MessageKind.WITHDRAW) or message.number < last:
            return []  # a copy of an exchange that its sender has closed
        if message.number > last:
            own, flow = None, torch.zeros(1, 1, dtype=torch.float64)
            if message.kind is MessageKind.REQUEST:
                own = state.rows["x"].clone()
                flow += self._flow(state, own, message.row(own), 0)
            keep(state, edge, answered=torch.tensor(message.number), reply=own, flow=flow)
        reply = state.edges[edge].get("reply")
        kind = MessageKind.REFUSAL if reply is None else MessageKind.REPLY
        answer = Message(place.peer, message.src, kind, message.number, message.attempt)
        return [answer if reply is None else answer.with_row(reply[0])]

    def gone(self, state: State, place: Place, neighbour: int) -> None:
        """Close an own exchange with a neighbour that is lost."""
        if (place.peer, neighbour) in state.edges:
            keep(state, (place.peer, neighbour), asked=None, number=None)

    def refused(self, state: State, place: Place, neighbour: int) -> None:
        """Close the exchange with this neighbour, if one is open."""
        if neighbour in self.open(state, place):
            state.rows[REFUSED] = state.rows[REFUSED] + 1
            keep(state, (place.peer, neighbour), asked=None, number=None)

    def refuse(self, state: State, place: Place, message: Message) -> list[Message]:
        """Answer a request as if it had been withdrawn."""
        asked = message.kind is MessageKind.REQUEST
        return self.receive(state, place, 0, replace(message, kind=MessageKind.WITHDRAW)) if asked else []

    def open(self, state: State, place: Place) -> dict[int, int]:
        """Return the exchange that this peer initiated and that has no answer yet."""
        return {edge[1]: int(kept["number"][0]) for edge, kept in state.edges.items() if "number" in kept}

    def remind(self, state: State, place: Place, clock: int) -> list[Message]:
        """Return the request again, or a withdrawal where the bound is reached."""
        messages = []
        for j, number in self.open(state, place).items():
            kept = state.edges[place.peer, j]
            attempt = int(kept["number"][1]) + 1
            keep(state, (place.peer, j), number=torch.tensor([number, attempt]))
            again = Message(place.peer, j, MessageKind.WITHDRAW, number, attempt)
            late = clock - number >= self.bound
            messages.append(again if late else replace(again, kind=MessageKind.REQUEST).with_row(kept["asked"][0]))
        return messages

    def _flow(self, state: State, own: Tensor, other: Tensor, stale: int) -> float:
        """Add w (other - own), and return its norm."""
        self.count(state, stale)
        flow = self.weight * (other - own)
        state.rows["x"] = state.rows["x"] + flow
        return float(torch.linalg.vector_norm(flow))
