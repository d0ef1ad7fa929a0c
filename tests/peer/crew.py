"""Peers of one run in threads of this process, with real sockets, and clips that are numbers only."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from schedules import data

from p2pser.config import Config
from p2pser.corpora.folds import Split
from p2pser.corpora.manifest import Corpus
from p2pser.features.federation import Examples, Federation
from p2pser.graph.spec import Topology, load
from p2pser.models.directory import load as load_model
from p2pser.models.rows import Schema
from p2pser.peer.ending import Ending
from p2pser.peer.launch import free_base_port
from p2pser.peer.process import Peer
from p2pser.peer.supervisor import Supervisor
from p2pser.peer.telemetry import read

LABELS, SIZE, ROUNDS = ("calm", "cross", "glad"), 8, 7
PATIENCE = 250.0
"""Longest time of a peer's run on a busy machine [s]."""
Hear = Callable[[Peer, dict[str, Any]], None]


def examples(peer: int, clips: int = 12) -> Examples:
    return data.examples(peer, clips, len(LABELS), SIZE)


def federation(me: int, normalise: str) -> Federation:
    return Federation(LABELS, {me: examples(me)}, examples(99), Split("none", (), (), ("s99",), True),
                      Corpus("numbers", "1", ()), normalise, [], 0, (), ("a note",))


class Crew:
    """All peers of a topology; ``hear`` gets every line that a peer tells."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.topology: Topology = load("ring", peers=3)
        self.port = free_base_port(3)
        self.pool = ThreadPoolExecutor(3)
        self.said: list[str] = []
        self.peers: list[Peer] = []
        self.normalise = "global"
        self.config = self.configured("run")

    def configured(self, name: str, *settings: str) -> Config:
        # No dropout: it draws from torch's own generator, which the threads of this process share.
        return Config().with_settings([
            f"name={name}", f"peer.out={self.folder}", f"network.base_port={self.port}", f"training.rounds={ROUNDS}",
            "model.hidden=[6]", "model.dropout=0", "training.local_steps=2", "peer.checkpoint_every=2",
            "network.serve_after=0", *settings])

    def peer(self, config: Config, me: int, hear: Hear = lambda peer, record: None, fresh: bool = False,
             supervisor: Supervisor | None = None) -> Peer:
        one = Peer(config, self.topology, me, fresh=fresh, federation=federation(me, self.normalise),
                   say=self.said.append, sink=lambda record: hear(one, record), supervisor=supervisor)
        self.peers.append(one)
        return one

    def close(self) -> None:
        """Stop the peers that a failed test has left: they would wait for each other, and the test for them."""
        for one in self.peers:
            one.interrupt()
        self.pool.shutdown()

    def run(self, config: Config, hear: Hear = lambda peer, record: None, fresh: bool = False) -> list[Ending]:
        futures: list[Future[Ending]] = [self.pool.submit(self.peer(config, i, hear, fresh).run) for i in range(3)]
        return [future.result(timeout=PATIENCE) for future in futures]

    def path(self, config: Config, me: int) -> Path:
        return self.folder / config.name / f"peer-{me}"

    def events(self, config: Config, me: int) -> list[str]:
        """The kinds of a peer's events, without the pauses of this process, which a busy machine makes."""
        return [one["kind"] for one in read(self.path(config, me) / "events.jsonl") if one["kind"] != "paused"]

    def rounds(self, config: Config, me: int) -> list[int]:
        return [one["round"] for one in read(self.path(config, me) / "metrics.jsonl")]

    def row(self, config: Config, me: int) -> torch.Tensor:
        module, _ = load_model(self.path(config, me) / "model")
        return Schema.of(module).flatten(module)


def stop_after(round: int) -> Hear:
    """Interrupt every peer when it tells of this round."""
    def hear(peer: Peer, record: dict[str, Any]) -> None:
        if record.get("round") == round and "kind" not in record:
            peer.interrupt()

    return hear
