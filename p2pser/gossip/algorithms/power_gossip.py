"""PowerGossip: a power iteration on the difference of two models, with one vector a matrix over each edge."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from p2pser.base.errors import ConfigError
from p2pser.base.registries import ALGORITHMS
from p2pser.gossip import factors, requirements
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.both_ends import Head, Marks, decode, mark, numbers
from p2pser.gossip.factors import Parts
from p2pser.gossip.mixer import Mixer, Outbox, Step
from p2pser.gossip.reading import Edge
from p2pser.wire.codec import DENSE, Received, codec, magnitude, plausible
from p2pser.wire.low_rank import matrices


@ALGORITHMS.register("power-gossip")
@dataclass(frozen=True, kw_only=True)
class PowerGossip(Algorithm):
    """PowerGossip: local steps, then exchanges that move each edge's difference along one singular direction.

    For each matrix M of the model and each edge (i, j) both ends have the same unit vector v, random at first. They
    send M_i v and M_j v and compute::

        M_i  <-  M_i + W_ij (M_j v - M_i v) v^T
        v    <-  (M_i v - M_j v) / |M_i v - M_j v|

    The next exchange uses the new v from the left (M^T v is sent). So the vectors follow the largest singular vectors
    of the remaining difference, without a step to tune. Parts of the model that are no matrices are mixed whole.
    Conserved: the mean of the rows.

    Assumes: one symmetric W for all rounds; models of equal shapes. After a lost message both ends begin with the same
    new random vector, and a flow that one end alone applied is taken back (``both_ends``).

    Reference: T. Vogels, S. P. Karimireddy, M. Jaggi, "Practical Low-Rank Communication Compression in Decentralized
    Deep Learning", NeurIPS 2020.
    """

    requires = (requirements.static_symmetric, requirements.uniform_weighting)

    iterations: int = 1
    """exchanges a round, 1 or more, each with one vector for each matrix"""

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ConfigError(f"gossip.parameters.iterations = {self.iterations} must be 1 or more")

    @property
    def slots(self) -> int:
        """``iterations``."""
        return self.iterations

    def begin(self, state: State, mixer: Mixer) -> None:
        """Add marks without knowledge to every edge."""
        mark(state, mixer)

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Take the local steps and exchange at Step(round, 0 .. iterations-1)."""
        x, parts = local.train(state, round), matrices(local.shapes)
        for slot in range(self.slots):
            x = self._exchange(state, mixer, x, parts, Step(round, slot))
        state.rows["x"] = x
        return state

    def _exchange(self, state: State, mixer: Mixer, x: Tensor, parts: Parts, at: Step) -> Tensor:
        """Return rows x (B, D) after an exchange.

        An edge stores its next "vectors" and their "side", and of the pending flow "moved", W_ij times the difference
        of products, and "along", its vectors.
        """
        t, place = at.round * self.slots + at.slot, {peer: b for b, peer in enumerate(mixer.peers)}
        own = {i: x[b].clone() for i, b in place.items()}  # aligned copies, whose products round alike at all peers
        sent: dict[Edge, tuple[Marks, int, Tensor, Tensor]] = {}
        messages: dict[Edge, Tensor | bytes] = {}
        for i in mixer.peers:
            for j in mixer.receivers(i, at):
                kept = state.edges[i, j]
                marks = Marks.of(kept["marks"])
                side, vectors = (int(kept["side"]), kept["vectors"]) if marks.have >= 0 else (
                    0, factors.drawn(self.context.config.seed, (i, j), t, parts, 0, x.dtype))
                products = factors.project(own[i], vectors, parts, side)
                sent[i, j] = marks, side, vectors, products
                messages[i, j] = Head(marks, t - 1).encode(t) + bytes(DENSE.encode(products))
        mixer.post(at, Outbox(edges=messages))
        mixed, whole = x.clone(), codec(DENSE.wire_name(x[0]))

        def read(edge: Edge, message: Received) -> tuple[Head, Tensor | None]:
            """Return the head of a message and its products; None where they are of other vectors than ours."""
            theirs, payload = decode(message, t, x[0].numel() * x.element_size())
            if edge not in sent:
                return theirs, None
            marks, _, _, products = sent[edge]
            if theirs.marks.have != marks.have and max(theirs.marks.have, marks.have) >= 0:
                return theirs, None
            other = numbers(whole, payload, products, edge[1])
            if not magnitude(other) <= plausible(max(magnitude(products), magnitude(own[edge[0]]))):
                raise message.refused("products that are not plausible here")
            return theirs, other

        inbox = mixer.collect_messages(at, read)
        for edge in inbox.missing:
            # The vectors no longer fit; the neighbour's next message settles the pending flow.
            kept = state.edges[edge]
            state.edges[edge] = {**kept, "marks": Marks.of(kept["marks"]).lost()}
        for i, j, weight, (theirs, other) in zip(inbox.dst.tolist(), inbox.src.tolist(), inbox.weight.tolist(),
                                                 inbox.values):
            b, kept = place[i], state.edges[i, j]
            marks = Marks.of(kept["marks"])
            if marks.settle(theirs.marks):
                mixed[b] -= factors.expand(kept["moved"], kept["along"], parts, 1 - int(kept["side"]))
            if other is None:
                state.edges[i, j] = {"marks": marks.lost()}
                continue
            _, side, vectors, products = sent[i, j]
            moved = (other - products).mul_(weight)
            mixed[b] += factors.expand(moved, vectors, parts, side)
            spare = partial(factors.drawn, self.context.config.seed, (i, j), t, parts, 1 - side, x.dtype)
            new = factors.turn(other - products if i > j else products - other, parts, side, spare)
            state.edges[i, j] = {"vectors": new, "side": torch.tensor(1 - side), "moved": moved, "along": vectors,
                                 "marks": Marks(t, t, marks.confirmed).tensor()}
        return mixed
