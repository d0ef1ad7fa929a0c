"""Two peers in one process, for the tests of the I/O thread."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from p2pser.network import events
from p2pser.network.io import IOThread
from p2pser.network.states import State
from p2pser.wire.messages import Phase, Progress

if TYPE_CHECKING:
    from network.conftest import Network

MIB = 1 << 20
Eventually = Callable[[Callable[[], bool], str], None]


def payload(seed: int, size: int = MIB) -> bytes:
    return random.Random(seed).randbytes(size)


def pair(network: Network, **options: Any) -> tuple[IOThread, IOThread]:
    a, b = network.peer(0, (1,), **options), network.peer(1, (0,), **options)
    network.wait(a, events.Up)
    network.wait(b, events.Up)
    return a, b


def becomes(state: State) -> Callable[[events.Changed], bool]:
    return lambda event: event.after is state


def lost(network: Network, io: IOThread) -> list[int]:
    return [event.peer for event in network.so_far(io)
            if isinstance(event, events.Changed) and event.after is State.LOST]


def begin(network: Network, *io: IOThread) -> None:
    """From here on nobody may leave and come back."""
    for one in io:
        one.begin()
        network.wait(one, events.Begun)
        one.progress = Progress(0, 0, Phase.TRAIN, 0)
