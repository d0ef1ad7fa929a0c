"""The newest of several public rows, for all peers: a flood tells who holds which, and where they differ brings it."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from typing import NamedTuple

import networkx as nx
import torch
from torch import Tensor

from p2pser.base.errors import RemoteProtocolError
from p2pser.gossip.agreement.flood import Check, flood_values, most_slots
from p2pser.gossip.agreement.masks import digest
from p2pser.gossip.mixer import Mixer
from p2pser.gossip.secrets import NONCE

_AGE = struct.Struct(">iI")


class Age(NamedTuple):
    """The round that a row comes from (-1: none), and of how many peers it is the mean; the larger one is taken."""

    round: int
    peers: int


def newest(mixer: Mixer, round: int, ages: Mapping[int, Age], rows: Mapping[int, Tensor], graph: nx.Graph,
           dead: Collection[int] = ()) -> tuple[dict[int, Tensor], dict[int, Age], int]:
    """Return the newest row (D,) float32 of the reachable peers and its age, by hosted peer, and the exchanges taken.

    A hosted peer that the newest row does not reach is left out. Of several rows of one age that with the largest
    digest is taken, the same everywhere.

    Parameters
    ----------
    mixer : carries two floods, in ``round``.
    ages, rows : by hosted peer.
    graph : the topology's graph.
    dead : the unreachable peers.
    """
    def of_sizes(*sizes: int) -> Check:
        def check(origin: int, value: bytes) -> None:
            if len(value) not in sizes:
                raise RemoteProtocolError(f"peer {origin} told of its row in {len(value)} bytes", origin)

        return check

    bodies = {i: row.numpy().astype("<f4").tobytes() for i, row in rows.items()}
    names = {i: _AGE.pack(*ages[i]) + digest(bodies[i]) for i in bodies}
    named = _AGE.size + NONCE
    known, exchanges = flood_values(mixer, round, names, graph, dead, most=named, check=of_sizes(named))
    best = {i: max(values.values(), key=lambda name: (_AGE.unpack(name[: _AGE.size]), name))
            for i, values in known.items()}
    if all(len(set(values.values())) == 1 for values in known.values()):
        return dict(rows), dict(ages), exchanges
    sends = {i for i in bodies if i == min(j for j, name in known[i].items() if name == best[i])}
    size = len(next(iter(bodies.values())))
    brought, more = flood_values(mixer, round, {i: bodies[i] if i in sends else b"" for i in bodies}, graph, dead,
                                 most=size, check=of_sizes(0, size), first=most_slots(graph))
    taken: dict[int, Tensor] = {}
    for i, values in brought.items():
        fitting = [value for value in values.values() if value and digest(value) == best[i][_AGE.size :]]
        if fitting:
            taken[i] = torch.frombuffer(bytearray(fitting[0]), dtype=torch.float32)
        elif names[i] == best[i]:
            taken[i] = rows[i]
    return taken, {i: Age(*_AGE.unpack(best[i][: _AGE.size])) for i in taken}, exchanges + more
