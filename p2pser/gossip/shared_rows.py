"""Rows that the two ends of an edge share, and move by the compressed difference of each end's own row to them.

An edge {i, j} has a row k_ij. In an exchange i sends q_ij = Q(x_i - k_ij), j sends q_ji, and then::

    x_i <- x_i + q_ji,    x_j <- x_j + q_ij,    k_ij <- k_ij + q_ij + q_ji

So x_i - k_ij is what i has not sent yet, and the rows of both ends and k_ij tend to each other. A message that arrives
at one end only is taken back: each message says from which exchange its sender's k_ij is, and an end whose k_ij is
newer returns to the one before. An end without any, which begins afresh, sends its whole row; in the first exchange in
which both ends do, k_ij becomes the mean of the two.
"""

from __future__ import annotations

import struct

import torch
from torch import Tensor

from p2pser.gossip.algorithm import State
from p2pser.gossip.both_ends import LOST, START, numbers
from p2pser.gossip.mixer import Mixer, Outbox, Step
from p2pser.gossip.reading import Edge
from p2pser.wire.codec import DENSE, Codec, Received, codec, magnitude, plausible

_VERSION = struct.Struct("<i")

# Edges (i, j): "shared" (D,) k_ij and "before" (D,), the one before; "came" (D,), what came from j between the two;
# "versions" (2,) int64, the exchanges of both. Without a shared row "versions" is (LOST, LOST), and alone.


def share(row: Tensor, version: int = START) -> dict[str, Tensor]:
    """Return the state of an edge whose ends share ``row`` (D,) since the exchange ``version``."""
    return {"shared": row.clone(), "before": row, "came": row.new_zeros(len(row)), "versions": _pair(version, version)}


def apart() -> dict[str, Tensor]:
    """Return the state of an edge whose ends share no row."""
    return {"versions": _pair(LOST, LOST)}


def exchange(state: State, mixer: Mixer, rows: Tensor, at: Step, t: int, form: Codec) -> Tensor:
    """Exchange the differences of rows (B, D) to the shared rows over the edges in ``state``; return the new rows.

    at, t : the step of the exchange, and its index. form : Q.
    """
    place, whole = {peer: b for b, peer in enumerate(mixer.peers)}, codec(DENSE.wire_name(rows[0]))
    sent: dict[Edge, bytes] = {(i, j): b"" for i in mixer.peers for j in mixer.receivers(i, at)}
    for i, j in sent.keys() & state.edges.keys():
        kept, row = state.edges[i, j], rows[place[i]]
        change = form.encode(row - kept["shared"]) if "shared" in kept else DENSE.encode(row)
        sent[i, j] = _VERSION.pack(int(kept["versions"][1])) + bytes(change)
    mixer.post(at, Outbox(edges=sent))
    limits, most = [plausible(magnitude(row)) for row in rows], 64 + 2 * rows[0].numel() * rows.element_size()

    def read(edge: Edge, message: Received) -> tuple[int, Tensor] | None:
        """Return the version of the sender's shared row, and its change or whole row; None over other edges."""
        octets = memoryview(message.octets(most if edge in state.edges else 0))
        if edge not in state.edges:
            return None
        version = _VERSION.unpack_from(octets)[0] if octets.nbytes >= _VERSION.size else t
        if not LOST <= version < t:
            raise message.refused(f"a message of another form in exchange {t}")
        value = numbers(whole if version == LOST else form, octets[_VERSION.size :], rows[0], edge[1])
        if not magnitude(value) <= limits[place[edge[0]]]:
            raise message.refused("numbers that are not plausible here")
        return version, value

    inbox, new = mixer.collect_messages(at, read), rows.clone()
    for (i, j), came in inbox.by_edge():
        if came is not None:
            kept, (version, value) = state.edges[i, j], came
            before, own = kept["versions"].tolist()
            if version == own == LOST and (i, j) in sent:
                state.edges[i, j] = share((rows[place[i]] + value) / 2, t)
            elif version == own and (i, j) in sent:
                mine = numbers(form, memoryview(sent[i, j])[_VERSION.size :], rows[0], i)
                new[place[i]] += value
                moved = kept["shared"] + (mine if i < j else value) + (value if i < j else mine)
                state.edges[i, j] = {"shared": moved, "before": kept["shared"], "came": value,
                                     "versions": _pair(own, t)}
            elif LOST < version == before < own:
                new[place[i]] -= kept["came"]
                state.edges[i, j] = share(kept["before"], before)
            elif not LOST < own < version:  # else the other end will return to ours
                state.edges[i, j] = apart()
    return new


def _pair(before: int, own: int) -> Tensor:
    return torch.tensor([before, own])
