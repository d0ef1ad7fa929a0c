"""The processes of real peers: slowed down, changed, in a network of their own, or held where they are."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from p2pser.config import Config
from p2pser.features.federation import Federation
from p2pser.graph.spec import Topology
from p2pser.peer.launch import child_work

NAMESPACES = Path("/var/run/netns")
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Life:
    """A child's work: a peer in a network namespace, or whose local work takes a time of its own, or that lies.

    pace : seconds that the local work of a round takes at least; then the rounds do not depend on the processor.
    namespace : name of the network namespace to enter.
    change : called first in the child, with (config, topology, me): a hostile peer replaces parts of itself.
    held_after : once it has told of this round it stays there until a signal comes (to go on: SIGCONT), so that what a
        test does to it happens there, and its neighbours wait for it, however slow the test is.
    """

    pace: float = 0.0
    namespace: str = ""
    change: Callable[[Config, Topology, int], None] | None = None
    held_after: int | None = None

    def __call__(self, config: Config, topology: Topology, me: int, fresh: bool, pipe: Connection,
                 federation: Federation | None) -> None:
        if self.namespace:
            enter(self.namespace)
        if self.pace:
            slow_down(self.pace)
        if self.change is not None:
            self.change(config, topology, me)
        told = pipe if self.held_after is None else Held(pipe, self.held_after)
        child_work(config, topology, me, fresh, told, federation)  # type: ignore[arg-type]


class Held:
    """The pipe on which a peer tells of its rounds; after one of them it lets the peer wait for a signal."""

    def __init__(self, pipe: Connection, after: int) -> None:
        self._pipe, self._after = pipe, after
        self._came, handled = os.pipe()
        os.set_blocking(handled, False)
        signal.signal(signal.SIGCONT, lambda *_: None)
        signal.set_wakeup_fd(handled)  # a signal that came before the wait ends it too

    def fileno(self) -> int:
        """The pipe's descriptor."""
        return self._pipe.fileno()

    def send_bytes(self, message: bytes) -> None:
        """Tell a record."""
        self._pipe.send_bytes(message)
        record = json.loads(message.partition(b"\n")[0])
        if "kind" not in record and record["round"] == self._after:
            os.read(self._came, 1)


def enter(namespace: str) -> None:
    """Move this thread, and those that it starts, to a network namespace."""
    handle = os.open(NAMESPACES / namespace, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(handle, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {namespace}")
    finally:
        os.close(handle)


def slow_down(pace: float) -> None:
    """Let the local work of a round of this process take so many seconds more."""
    from p2pser.training.learner import Learner

    plain: Callable[..., Iterator[Any]] = Learner._gradients

    @functools.wraps(plain)
    def slow(self: Learner, row: Any, round: int, *rest: Any) -> Iterator[Any]:
        time.sleep(pace)
        yield from plain(self, row, round, *rest)

    Learner._gradients = slow  # type: ignore[method-assign]


def wait_in_round(number: int, gate: Path, config: Config, topology: Topology, me: int) -> None:
    """Let this process's local work of one round wait for a file, as a ``change`` of a ``Life``."""
    from p2pser.training.learner import Learner

    plain: Callable[..., Iterator[Any]] = Learner._gradients

    @functools.wraps(plain)
    def waits(self: Learner, row: Any, round: int, *rest: Any) -> Iterator[Any]:
        while round == number and not gate.exists():
            time.sleep(0.02)
        yield from plain(self, row, round, *rest)

    Learner._gradients = waits  # type: ignore[method-assign]
