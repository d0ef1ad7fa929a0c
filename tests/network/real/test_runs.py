"""Runs of real peers: equal to the simulator, and through kills, stops and interruptions."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lives import Life

from p2pser.features.federation import federate
from p2pser.graph.spec import Topology, load, parse
from p2pser.run.account import INCOMPLETE
from p2pser.run.checkpoint import available
from p2pser.simulation.engine import simulate

RING = load("ring", peers=6)
HALF_HIDDEN = parse({**RING.document, "peers": {i: {"address": "none"} for i in (0, 2, 4)}}, "half-hidden")
"""Every second peer listens nowhere and dials its neighbours."""
EVERYBODY = range(6)
ODD = 2
QUICK = ("network.ping_after=0.3", "network.suspect_after=1.0", "network.dead_after=3.0")
Furthest = Callable[[torch.Tensor], float]


def ended_round(record: dict[str, Any]) -> int | None:
    """The round after which a peer tells its measurements; None for any other record."""
    return record["round"] if "kind" not in record else None


@pytest.mark.parametrize(("normalise", "topology"), [("speaker", RING), ("global", RING), ("global", HALF_HIDDEN)],
                         ids=["speaker", "global", "half-hidden"])
def test_network_and_simulator_end_with_the_same_model(real: Any, furthest: Furthest, normalise: str,
                                                       topology: Topology) -> None:
    config = real.config("out", f"features.normalise={normalise}")
    story = real.run(config, topology)
    assert story.exit_codes == dict.fromkeys(EVERYBODY, 0), str(story)
    assert all(one["peers_dead"] == [] and one["left_out"] == [] for one in story.summaries.values())
    assert all(one["consensus"] and one["drift"] == 0 for one in story.summaries.values())
    listening = [real.events(config, i, "listening")[0]["endpoint"] is not None for i in EVERYBODY]
    assert listening == [i not in topology.peers for i in EVERYBODY]
    rows = real.rows(config, EVERYBODY)
    assert furthest(rows) < 1e-6
    federation = federate(config, 6, workers=1)
    exact = simulate(config, RING, federation, exact=True)
    assert torch.equal(rows, exact.final.rows.to(torch.float32))
    assert {one["consensus_exchanges"] for one in story.summaries.values()} == {exact.final.exchanges}
    fast = simulate(config, RING, federation)
    assert float(torch.linalg.vector_norm(fast.row - rows[0]) / torch.linalg.vector_norm(rows[0])) < 1e-5
    start = real.config("start", f"features.normalise={normalise}", "training.rounds=0")
    untrained = simulate(start, RING, federation, exact=True).row
    assert float(torch.linalg.vector_norm(untrained - rows[0]) / torch.linalg.vector_norm(rows[0])) > 1e-2


@pytest.mark.parametrize("topology", [RING, HALF_HIDDEN], ids=["ring", "half-hidden"])
def test_a_killed_peer_is_left_out_and_nobody_else(real: Any, furthest: Furthest, topology: Topology) -> None:
    config = real.config("out", "training.rounds=30", *QUICK)

    def kill(peers: Any, record: dict[str, Any]) -> None:
        if record["reporter"] == ODD and ended_round(record) == 3:
            peers.kill(ODD)

    story = real.run(config, topology, kill, lives={ODD: Life(held_after=3)})
    living = [i for i in EVERYBODY if i != ODD]
    assert story.exit_codes == {**dict.fromkeys(living, INCOMPLETE), ODD: -signal.SIGKILL}, str(story)
    for one in story.summaries.values():
        assert (one["peers_dead"], one["agreed"], one["took_part"], one["peers"]) == ([ODD], 5, 5, 6)
        assert {peer for _, peer, _ in one["left_out"]} <= {ODD}
    assert any(one["left_out"] for one in story.summaries.values())
    assert furthest(real.rows(config, living)) < 1e-6
    for neighbour in RING.neighbours(ODD):
        assert real.events(config, neighbour, "dead", peer=ODD)
    assert not [one for i in living for one in real.events(config, i, "dead") if one["peer"] != ODD]


def test_a_stopped_peer_is_waited_for(real: Any, furthest: Furthest) -> None:
    config = real.config("out", "training.rounds=40", "network.dead_after=60")
    suspecting: set[int] = set()
    stopped = False

    def stop(peers: Any, record: dict[str, Any]) -> None:
        nonlocal stopped
        if record["reporter"] == ODD and ended_round(record) == 3:
            peers.kill(ODD, signal.SIGSTOP)
            stopped = True
        elif stopped and record.get("kind") == "suspect" and record["peer"] == ODD:
            suspecting.add(record["reporter"])
            if suspecting == set(RING.neighbours(ODD)):  # after suspect_after = 2 s
                peers.kill(ODD, signal.SIGCONT)

    story = real.run(config, RING, stop, lives={ODD: Life(held_after=3)})
    assert story.exit_codes == dict.fromkeys(EVERYBODY, 0), str(story)
    assert all(one["peers_dead"] == [] and one["left_out"] == [] for one in story.summaries.values())
    assert furthest(real.rows(config, EVERYBODY)) < 1e-6
    for neighbour in RING.neighbours(ODD):
        suspected, returned = (real.events(config, neighbour, kind, peer=ODD) for kind in ("suspect", "alive"))
        assert suspected[0]["at"] <= returned[-1]["at"]
    assert not [one for i in EVERYBODY for one in real.events(config, i, "dead")]


def test_interrupted_peers_leave_a_checkpoint_and_resume(real: Any) -> None:
    settings = ("peer.checkpoint_every=2", "training.local_steps=20")
    whole = real.config("whole", *settings)
    assert real.run(whole, RING).exit_codes == dict.fromkeys(EVERYBODY, 0)
    torn = real.config("torn", *settings)
    asked: set[int] = set()

    def interrupt(peers: Any, record: dict[str, Any]) -> None:
        first = record["reporter"] == 0 and ended_round(record) == 3
        heard = record.get("kind") == "bye" and record["peer"] == 0
        for peer in [0] if first else list(EVERYBODY) if heard else []:
            if peer not in asked:
                asked.add(peer)
                peers.kill(peer, signal.SIGINT)

    story = real.run(torn, RING, interrupt, lives={i: Life(held_after=5 if i else 3) for i in EVERYBODY})
    assert story.exit_codes == dict.fromkeys(EVERYBODY, 0), str(story)
    assert not story.summaries, str(story)
    for i in EVERYBODY:
        assert real.events(torn, i, "left", reason="interrupted")
        assert available(real.peer_folder(torn, i) / "checkpoint"), i
    assert [one for i in RING.neighbours(0) for one in real.events(torn, i, "bye", peer=0, reason="interrupted")]
    story = real.run(torn, RING)
    assert story.exit_codes == dict.fromkeys(EVERYBODY, 0), str(story)
    assert sorted(story.summaries) == list(EVERYBODY)
    assert torch.equal(real.rows(torn, EVERYBODY), real.rows(whole, EVERYBODY))
