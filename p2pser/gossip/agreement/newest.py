"""The newest of several public rows, for all peers: a flood tells who holds which, and where they differ brings it."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

import networkx as nx
import torch
from torch import Tensor

from p2pser.base.errors import RemoteProtocolError
from p2pser.gossip.agreement.flood import flood_values, most_slots
from p2pser.gossip.agreement.masks import digest
from p2pser.gossip.mixer import Mixer
from p2pser.gossip.secrets import NONCE
from p2pser.wire.codec import magnitude

_AGE = struct.Struct(">iI")


class Age(NamedTuple):
    """The round that a row comes from (-1: none), and of how many peers it is the mean; the larger one is taken."""

    round: int
    peers: int


def newest(mixer: Mixer, round: int, ages: Mapping[int, Age], rows: Mapping[int, Tensor], graph: nx.Graph,
           dead: Collection[int] = (), *, rounds: int, largest: float,
           ) -> tuple[dict[int, Tensor], dict[int, Age], int]:
    """Return the newest row (D,) float32 of the reachable peers and its age, by hosted peer, and the exchanges taken.

    A hosted peer that the newest row does not reach is left out. Of several rows of one age that is taken which most
    peers hold, and of these that with the largest digest, the same everywhere. So one peer that lies cannot have a row
    of its own taken where others hold a total of the same age.

    Parameters
    ----------
    mixer : carries two floods, in ``round``.
    ages, rows : by hosted peer.
    graph : the topology's graph.
    dead : the unreachable peers.
    rounds : R; no row comes from a later round.
    largest : magnitude of the largest number that a row may hold.
    """
    def check_name(origin: int, value: bytes) -> None:
        if len(value) != named or not -1 <= _age(value).round < rounds:
            raise RemoteProtocolError(f"peer {origin} told of a row that no peer can have", origin)

    def check_row(origin: int, value: bytes) -> None:
        if value and (len(value) != size or not magnitude(_row(value)) <= largest):
            raise RemoteProtocolError(f"peer {origin} sent a row that cannot be a total", origin)

    bodies = {i: row.numpy().astype("<f4").tobytes() for i, row in rows.items()}
    names = {i: _AGE.pack(*ages[i]) + digest(bodies[i]) for i in bodies}
    named = _AGE.size + NONCE
    known, exchanges = flood_values(mixer, round, names, graph, dead, most=named, check=check_name)
    best = {i: _best(list(values.values()), len(graph)) for i, values in known.items()}
    if all(len(set(values.values())) == 1 for values in known.values()):
        return dict(rows), dict(ages), exchanges
    sends = {i for i in bodies if i == min(j for j, name in known[i].items() if name == best[i])}
    size = len(next(iter(bodies.values())))
    brought, more = flood_values(mixer, round, {i: bodies[i] if i in sends else b"" for i in bodies}, graph, dead,
                                 most=size, check=check_row, first=most_slots(graph))
    taken: dict[int, Tensor] = {}
    for i, values in brought.items():
        fitting = [value for value in values.values() if value and digest(value) == best[i][_AGE.size :]]
        if fitting:
            taken[i] = _row(fitting[0])
        elif names[i] == best[i]:
            taken[i] = rows[i]
    return taken, {i: _age(best[i]) for i in taken}, exchanges + more


def _best(names: list[bytes], peers: int) -> bytes:
    """Return the name of the row that is taken: (age, digest) in bytes, one of each peer."""
    holders = Counter(names)

    def order(name: bytes) -> tuple[int, int, int, bytes]:
        age = _age(name)
        return age.round, min(age.peers, peers), holders[name], name

    return max(names, key=order)


def _age(name: bytes) -> Age:
    return Age(*_AGE.unpack(name[: _AGE.size]))


def _row(octets: bytes) -> Tensor:
    return torch.frombuffer(bytearray(octets), dtype=torch.float32)
