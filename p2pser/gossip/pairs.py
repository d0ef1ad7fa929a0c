"""Averages of pairs of peers over a part of their rows, by messages that may be lost."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from p2pser.gossip.algorithm import State
from p2pser.gossip.both_ends import Head, Marks, decode, numbers
from p2pser.gossip.mixer import Mixer, Outbox, Step
from p2pser.gossip.reading import Edge
from p2pser.wire.codec import DENSE, Received, codec, magnitude, plausible


def read_part(message: Received, t: int, like: Tensor) -> tuple[Marks, Tensor]:
    """Return the sender's marks and its part of a row in exchange ``t``, of the size and dtype of ``like``.

    Raises RemoteProtocolError for another form.
    """
    head, payload = decode(message, t, like.numel() * like.element_size())
    return head.marks, numbers(codec(DENSE.wire_name(like)), payload, like, message.sender)


def average_parts(state: State, mixer: Mixer, rows: Tensor, at: Step, t: int,
                  part: Callable[[Edge, int], slice]) -> None:
    """Average the ends of each edge over a part of their rows (B, D), in place.

    The sum of the rows is conserved: a flow that one end alone applied is taken back. Edges need "marks"; they keep
    their pending flow as "moved".

    Parameters
    ----------
    at, t : the step of the exchange, and its index.
    part : returns the entries that cross an edge in an exchange, equal for both of its directions.
    """
    place = {peer: b for b, peer in enumerate(mixer.peers)}
    own = {(i, j): rows[b][part((i, j), t)].clone() for i, b in place.items() for j in mixer.receivers(i, at)}
    mixer.post(at, Outbox(edges={edge: Head(Marks.of(state.edges[edge]["marks"]), t - 1).encode(t)
                                 + bytes(DENSE.encode(sent)) for edge, sent in own.items()}))
    limits = {i: plausible(magnitude(rows[b])) for i, b in place.items()}

    def read(edge: Edge, message: Received) -> tuple[Marks, Tensor]:
        """Return the sender's marks and its part."""
        theirs, other = read_part(message, t, rows[place[edge[0]]][part(edge, t)])
        if not magnitude(other) <= limits[edge[0]]:
            raise message.refused("a part of its row with numbers that are not plausible here")
        return theirs, other

    inbox = mixer.collect_messages(at, read)
    for (i, j), (theirs, other) in inbox.by_edge():
        row, kept = rows[place[i]], state.edges[i, j]
        marks = Marks.of(kept["marks"])
        pending = marks.pending
        if marks.settle(theirs):
            row[part((i, j), pending)].sub_(kept["moved"])
        state.edges[i, j] = {"marks": marks.tensor()}
        if (i, j) in own:
            moved = (other - own[i, j]) / 2
            row[part((i, j), t)].add_(moved)
            state.edges[i, j] = {"marks": Marks(t, t, marks.confirmed).tensor(), "moved": moved}
