"""Two corpora in one run between processes, a peer with clips of one: the simulator's bits, also after a kill."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import networkx as nx
import torch
from lives import Life

from p2pser.config import Config
from p2pser.corpora.manifest import read_manifest, write_manifest
from p2pser.features.federation import federate
from p2pser.graph.spec import Topology
from p2pser.models.directory import read_card
from p2pser.simulation.engine import simulate

PEERS = 4
RING = Topology("ring", nx.cycle_graph(PEERS), {}, "metropolis", {})


def two_corpora(real: Any, tones: Path, folder: Path, out: str) -> Config:
    """The tones of some speakers as one corpus, of the others as another."""
    whole = read_manifest(tones)
    paths = []
    for name, speakers in (("one", ("s0", "s1", "s2", "s3")), ("two", ("s4", "s5", "s6", "s7", "s8"))):
        paths.append(folder / f"{name}.csv")
        clips = tuple(clip for clip in whole.clips if clip.speaker in speakers)
        write_manifest(dataclasses.replace(whole, clips=clips), paths[-1])
    found: Config = real.config(
        out, "corpus.name=manifest+manifest", f"corpus.data={json.dumps([str(path) for path in paths])}",
        "corpus.split=auto", "corpus.map=calm=neutral", "training.rounds=8", "peer.checkpoint_every=2", peers=PEERS)
    return found


def test_two_corpora_between_processes(real: Any, tones: Path, tmp_path: Path) -> None:
    config = two_corpora(real, tones, tmp_path, "whole")
    federation = federate(config, PEERS, workers=1)
    assert federation.labels == ("excitement", "neutral")
    assert [{speaker.split("/")[0] for speaker in federation.train[i].speakers} for i in range(PEERS)] \
        == [{"one"}, {"one"}, {"two"}, {"two"}]
    story = real.run(config, RING)
    assert story.exit_codes == dict.fromkeys(range(PEERS), 0), str(story)
    rows = real.rows(config, range(PEERS))
    assert torch.equal(rows, simulate(config, RING, federation, exact=True).final.rows.to(torch.float32))
    card, _ = read_card(real.peer_folder(config, 3) / "model")
    assert list(card.corpus.corpora) == ["one", "two"]
    assert (card.corpus.map, card.corpus.split) == ({"calm": "neutral"}, "each")

    torn = two_corpora(real, tones, tmp_path, "torn")
    killed: set[int] = set()

    def kill(peers: Any, record: dict[str, Any]) -> None:
        if "round" in record and "kind" not in record and record["round"] >= 4 and not killed:
            for peer in range(PEERS):
                killed.add(peer)
                peers.kill(peer, signal.SIGKILL)

    story = real.run(torn, RING, kill, lives=dict.fromkeys(range(PEERS), Life(held_after=4)))
    assert set(story.exit_codes.values()) == {-signal.SIGKILL}, str(story)
    story = real.run(torn, RING)
    assert story.exit_codes == dict.fromkeys(range(PEERS), 0), str(story)
    assert torch.equal(real.rows(torn, range(PEERS)), rows)
