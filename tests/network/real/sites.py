"""Peers of one machine that read their topology from a file, and again on SIGHUP, as ``p2pser peer`` does."""

from __future__ import annotations

import functools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from trials import Trial

from p2pser.config import Config
from p2pser.graph.spec import Topology, load

QUICK = ("network.ping_after=0.3", "network.suspect_after=1.0", "network.dead_after=3.0", "network.round_timeout=300",
         "training.local_steps=1")
HELD, LONG = 60, 0.8
"""In so many last rounds the local work takes so many seconds, until ``Sites.finish``."""


@dataclass(frozen=True)
class OneFile:
    """Direct links between peers of one topology file (trials.Wires)."""

    file: Path

    def view(self, me: int, config: Config) -> tuple[Config, Topology]:
        return config, load(str(self.file))

    def namespace(self, me: int) -> str:
        return ""


def _ready(file: Path, gate: Path, pace: float, config: Config, topology: Topology, me: int) -> None:
    """Let this process read the file again on SIGHUP, and take its last rounds slowly until the gate is there."""
    from p2pser.peer.process import Peer
    from p2pser.training.learner import Learner

    plain: Callable[..., Iterator[Any]] = Learner._gradients
    run, pause, last = Peer.run, threading.Event(), config.training.rounds - HELD

    @functools.wraps(plain)
    def held(self: Learner, row: Any, round: int, *rest: Any) -> Iterator[Any]:
        pause.wait(pace)
        until = time.monotonic() + LONG
        while round >= last and not gate.exists() and time.monotonic() < until:
            pause.wait(0.05)
        yield from plain(self, row, round, *rest)

    @functools.wraps(run)
    def hears(self: Peer) -> Any:
        signal.signal(signal.SIGHUP, lambda *_: self.read_again(lambda: load(str(file))))
        return run(self)

    Learner._gradients = held  # type: ignore[method-assign]
    Peer.run = hears  # type: ignore[method-assign]


@dataclass
class Sites(Trial):
    """A trial whose peers read one file, and take their last rounds slowly before ``finish``.

    wires : the file. pace : seconds that the local work of a round takes at least.
    """

    pace: float = 0.03
    wires: OneFile = field(default_factory=lambda: OneFile(Path()))

    @classmethod
    def of(cls, folder: Path, config: Config, document: dict[str, Any]) -> Sites:
        """Return the trial of a topology file, which is written into the folder."""
        file = folder / "sites.yaml"
        file.write_text(yaml.safe_dump(document), encoding="utf-8")
        trial = cls(config, load(str(file)), wires=OneFile(file), pace=0.0)
        trial.changes = {me: functools.partial(_ready, file, folder / "gate", 0.03) for me in range(8)}
        return trial

    def write(self, document: dict[str, Any] | str) -> None:
        """Replace the topology file."""
        text = document if isinstance(document, str) else yaml.safe_dump(document)
        self.wires.file.write_text(text, encoding="utf-8")

    def hangup(self, *peers: int) -> None:
        """Let peers read the file again."""
        self.kill(*peers, number=signal.SIGHUP)

    def finish(self) -> None:
        """Let the peers take their last rounds quickly."""
        (self.wires.file.parent / "gate").touch()

    def until_said(self, words: str, *peers: int, seconds: float = 90.0) -> None:
        """Wait until each of these peers has said this."""
        self.until(lambda: all(any(words in one for one in self.story.sentences(me)) for me in peers), seconds,
                   f"{words!r} by {peers}")
