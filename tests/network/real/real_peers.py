"""Real peers of a small run: processes, sockets and signals, with what they tell gathered.

Shared by the tests of this folder and scripts/chaos.
"""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from lives import Life

from p2pser.config import Config
from p2pser.graph.spec import Topology
from p2pser.models.directory import load as load_model
from p2pser.models.rows import Schema
from p2pser.peer.launch import LocalPeers, free_base_port
from p2pser.peer.telemetry import read

RATE = 16000
SPEAKERS, CLIPS, SECONDS = 9, 4, 0.4
EMOTIONS = {"calm": 2.0, "excited": 9.0}
"""Tremolo of each [Hz]: loud enough a difference to learn something from."""
RUN_TIMEOUT = 180.0
"""Longest time of a whole run on a busy machine [s]; an idle one takes 3 to 10 s."""

Record = dict[str, Any]
Act = Callable[[Record], None]


class Story:
    """What the peers of a run told, in the order in which it came."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.timed_out = False

    def _of(self, kind: str, field: str) -> dict[int, Any]:
        return {one["reporter"]: one[field] for one in self.records if one.get("kind") == kind}

    @property
    def exit_codes(self) -> dict[int, int]:
        return self._of("gone", "exit_code")

    @property
    def failures(self) -> dict[int, str]:
        return self._of("failed", "reason")

    @property
    def summaries(self) -> dict[int, Record]:
        return {i: one for i, one in self._of("ended", "summary").items() if one["finished"]}

    def sentences(self, peer: int) -> list[str]:
        return [one["sentence"] for one in self.records if one.get("kind") == "say" and one["reporter"] == peer]

    def __str__(self) -> str:
        """The last things told, for a failing assertion."""
        said = [str(one) for one in self.records if one.get("kind", "") not in ("", "sketch", "ended", "finished")]
        return "\n".join(["out of patience" if self.timed_out else "", *said[-40:]])


class Real:
    """Makes configurations of small runs, and runs them."""

    def __init__(self, corpus: Path, folder: Path) -> None:
        self._corpus, self.folder = corpus, folder

    def config(self, out: str, *settings: str, peers: int = 6) -> Config:
        """A run of tiny models under a folder ``out`` of the test's, on ports that are free now."""
        return Config().with_settings([
            "corpus.name=manifest", f"corpus.data={self._corpus}", "corpus.split=speakers:s8", "model.hidden=[16]",
            "training.rounds=12", "training.local_steps=5", "peer.evaluate_every=1000", "network.serve_after=0.5",
            "privacy.draws=seed",
            f"peer.out={self.folder / out}", f"network.base_port={free_base_port(peers)}", *settings])

    def run(self, config: Config, topology: Topology, act: Callable[[LocalPeers, Record], None] | None = None, *,
            ids: Sequence[int] | None = None, odd: Mapping[int, tuple[Config, Topology]] | None = None,
            lives: Mapping[int, Life] | None = None) -> Story:
        """Run the peers to their end; ``act`` hears every record as it comes.

        odd : peers of another run.
        lives : the work of peers that are slowed down, or held until ``act`` sends them a signal.
        """
        story = Story()
        others, works = odd or {}, lives or {}
        chosen = [i for i in (range(topology.size) if ids is None else ids) if i not in {*others, *works}]
        with LocalPeers(config, topology, chosen) as peers:
            for i in {*others, *works}:
                peers.start(i, run=others.get(i), work=works.get(i))
            with _patience(peers, story):
                for record in peers.records():
                    story.records.append(record)
                    if act is not None:
                        act(peers, record)
        assert not story.timed_out, str(story)
        return story

    def row(self, config: Config, peer: int) -> torch.Tensor:
        """The parameters (D,) of a peer's model directory."""
        module, _ = load_model(self.peer_folder(config, peer) / "model")
        return Schema.of(module).flatten(module)

    def rows(self, config: Config, peers: Sequence[int]) -> torch.Tensor:
        """The parameters (len(peers), D) of model directories."""
        return torch.stack([self.row(config, i) for i in peers])

    def peer_folder(self, config: Config, peer: int) -> Path:
        return config.peer.out / config.name / f"peer-{peer}"

    def events(self, config: Config, me: int, kind: str, /, **fields: Any) -> list[Record]:
        """The lines of one kind in a peer's events.jsonl that have these fields."""
        return [one for one in read(self.peer_folder(config, me) / "events.jsonl")
                if one["kind"] == kind and all(one.get(name) == value for name, value in fields.items())]


@contextmanager
def _patience(peers: LocalPeers, story: Story) -> Iterator[None]:
    """Kill all peers when a run takes too long, so that the test fails and says what was told."""
    def give_up() -> None:
        story.timed_out = True
        for child in peers.children.values():
            child.process.kill()

    timer = threading.Timer(RUN_TIMEOUT, give_up)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def furthest(rows: torch.Tensor) -> float:
    """The largest relative difference between any two rows."""
    rows = rows.to(torch.float64)
    return float(torch.cdist(rows, rows).max() / torch.linalg.vector_norm(rows, dim=1).min())


def write_tones(folder: Path, speakers: int = SPEAKERS) -> Path:
    """Write a corpus of tones whose tremolo is the emotion, and return its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    time = np.arange(int(RATE * SECONDS)) / RATE
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "speaker", "emotion"])
        for speaker in range(speakers):
            for emotion, tremolo in EMOTIONS.items():
                for clip in range(CLIPS):
                    pitch = 110 + 20 * speaker + draw.uniform(-5, 5)
                    tone = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 8))
                    signal = 0.2 * tone * (1 + 0.8 * np.sin(2 * np.pi * tremolo * time))
                    name = f"s{speaker}-{emotion}-{clip}.wav"
                    soundfile.write(folder / name, signal + draw.normal(0, 0.003, len(time)), RATE)
                    writer.writerow([name, f"s{speaker}", emotion])
    return folder / "manifest.csv"
