"""The fake time, sockets and descriptors in the place of the machine's, for as long as a schedule runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import zmq

from p2pser.base.energy import Energy, Meter
from p2pser.gossip.agreement import statistics
from p2pser.network import descriptors, sockets
from p2pser.peer import process as peer_process
from schedules.machine import Mixer
from schedules.sockets import Descriptors, Poller, Sockets
from schedules.wires import Context, Network
from schedules.world import World

EPOCH = 1.7e9
"""The date at which the fake time is 0 [s]."""

COARSE = 1e-2
"""The tolerance of statistics in schedules: a shorter gossip, after which peers' statistics differ."""


@contextmanager
def instead_of_the_machine(world: World, network: Network) -> Iterator[None]:
    """Put the fake time and sockets in the place of the real ones, no energy, and a shorter gossip of statistics."""
    Descriptors.network = network
    places = [
        (time, "monotonic", lambda: world.now), (time, "time", lambda: EPOCH + world.now),
        (Meter, "read", lambda meter: Energy(0.0, None, "not measured: the time is a fake one")),
        (peer_process, "NetworkMixer", Mixer), (zmq, "Context", Context), (zmq, "Poller", Poller),
        (statistics, "TOLERANCE", COARSE),
        *((sockets, name, getattr(Sockets, name)) for name in vars(Sockets) if not name.startswith("_")),
        *((descriptors, name, getattr(Descriptors, name)) for name in vars(Descriptors) if hasattr(descriptors, name))]
    places = [place for place in places if not place[1].startswith("_")]
    before = [getattr(where, name) for where, name, _ in places]
    for where, name, value in places:
        setattr(where, name, value)
    try:
        yield
    finally:
        for (where, name, _), value in zip(places, before):
            setattr(where, name, value)
