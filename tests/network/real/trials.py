"""Peers of a run as processes whose lives and links can be disturbed while they run."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from lives import Life
from real_peers import Record, Story
from relays import Condition

from p2pser.config import Config
from p2pser.graph.spec import Topology
from p2pser.peer.launch import LocalPeers
from p2pser.peer.telemetry import read


class Wires(Protocol):
    """The links between the peers of a trial, and what can be done to them."""

    def view(self, me: int, config: Config) -> tuple[Config, Topology]: ...
    def namespace(self, me: int) -> str: ...
    def impose(self, conditions: Mapping[tuple[int, int], Condition]) -> None: ...
    def reset(self, i: int, j: int) -> None: ...


@dataclass
class Trial:
    """The peers of a run, started, killed, stopped and started again at will. A context manager.

    config, topology : the run's.
    wires : the links.
    pace : as for ``Life``.
    changes : what hostile peers change in themselves, by peer.
    held : the round after which a peer stays where it is until a signal comes (``Life.held_after``), by peer; in its
        first life only.
    """

    config: Config
    topology: Topology
    wires: Wires
    pace: float = 0.0
    changes: dict[int, Callable[[Config, Topology, int], None]] = field(default_factory=dict)
    held: dict[int, int] = field(default_factory=dict)
    story: Story = field(default_factory=Story)
    rounds: dict[int, int] = field(default_factory=dict)
    """The round that each peer ended last."""
    gone: dict[int, int] = field(default_factory=dict)
    """The exit codes of peers that are not running."""
    sketches: dict[int, bytes] = field(default_factory=dict)
    """The sketch of each peer's latest row (``p2pser.peer.sketch``)."""
    heard: Callable[[Record], None] = lambda record: None

    def __post_init__(self) -> None:
        self.peers = LocalPeers(self.config, self.topology, ())

    def __enter__(self) -> Trial:
        self.peers.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.peers.__exit__(*error)

    @property
    def everybody(self) -> range:
        return range(self.topology.size)

    def start(self, *peers: int, fresh: bool = False) -> None:
        """Start peers; by default all of them."""
        for i in peers or self.everybody:
            self.gone.pop(i, None)
            life = Life(self.pace, self.wires.namespace(i), self.changes.get(i), self.held.pop(i, None))
            self.peers.start(i, fresh=fresh, work=life, run=self.wires.view(i, self.config))

    def kill(self, *peers: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to peers; wait for the end of those that are killed."""
        for i in peers:
            if i not in self.gone:
                self.peers.kill(i, number)
        if number == signal.SIGKILL:
            self.until(lambda: all(i in self.gone for i in peers), 30, f"the end of {peers}")

    def hear(self, timeout: float) -> None:
        """Take in what the peers have told; where there is nothing, wait at most ``timeout`` seconds."""
        for record in self.peers.news(timeout):
            me, kind = record["reporter"], record.get("kind")
            if kind == "sketch":
                self.sketches[me] = record["sketch"]
                continue
            record["heard"] = time.monotonic()
            self.story.records.append(record)
            if kind is None:
                self.rounds[me] = record["round"]
            elif kind == "gone":
                self.gone[me] = record["exit_code"]
            self.heard(record)

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Take in what is told until a condition holds. Raises AssertionError with the story after ``seconds``."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"{what}: not within {seconds} s; rounds {self.rounds}, gone {self.gone}\n"
                                     f"{self.story}")
            self.hear(0.1)

    def until_round(self, round: int, seconds: float = 60.0, peers: Iterable[int] | None = None) -> None:
        """Wait until each of these peers (by default all) has ended a round."""
        chosen = list(self.everybody if peers is None else peers)
        self.until(lambda: all(self.rounds.get(i, -1) >= round for i in chosen), seconds, f"round {round} of {chosen}")

    def until_told(self, kind: str, by: Iterable[int], seconds: float = 60.0, **fields: Any) -> None:
        """Wait until each of these peers has told an event, once in all."""
        chosen = set(by)
        self.until(lambda: chosen <= {one["reporter"] for one in self.told(kind, **fields)}, seconds,
                   f"{kind} {fields} by {sorted(chosen)}")

    def told(self, kind: str, **fields: Any) -> list[Record]:
        """The events of a kind with these fields that were told so far."""
        return [one for one in self.story.records if one.get("kind") == kind
                and all(one.get(name) == value for name, value in fields.items())]

    def until_end(self, seconds: float = 120.0, peers: Iterable[int] | None = None) -> dict[int, int]:
        """Wait until these peers (by default all) have ended; return their exit codes."""
        chosen = list(self.everybody if peers is None else peers)
        self.until(lambda: all(i in self.gone for i in chosen), seconds, f"the end of {chosen}")
        return {i: self.gone[i] for i in chosen}

    def events(self, me: int) -> list[Record]:
        """All lines of a peer's events.jsonl."""
        return read(self.config.peer.out / self.config.name / f"peer-{me}" / "events.jsonl")


def both_ways(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return both ways of links."""
    return [way for i, j in pairs for way in ((i, j), (j, i))]


def between(topology: Topology, part: Iterable[int]) -> list[tuple[int, int]]:
    """Return both ways of the links between a part of the peers and the others."""
    inside = set(part)
    return both_ways((i, j) for i, j in topology.graph.edges if (i in inside) != (j in inside))
