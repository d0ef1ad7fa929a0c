"""Real peers on graphs that change or go one way: equal to the simulator, resumed too."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from p2pser.peer.checkpoint import available
from p2pser.simulation.engine import simulate
from p2pser.speech.federation import federate
from p2pser.topology.spec import parse

EVERYBODY = range(6)
RUNS = {
    "one-peer-exponential": ({"graph": {"kind": "one-peer-exponential", "peers": 6}}, ()),
    "push-sum": ({"graph": {"kind": "directed-ring", "peers": 6}}, ("gossip.algorithm=push-sum",)),
    "push-sum by clips": ({"graph": {"kind": "random-digraph", "peers": 6, "seed": 3}},
                          ("gossip.algorithm=push-sum", "gossip.weighting=clips")),
    "matching": ({"graph": {"kind": "random-matching", "peers": 6, "seed": 1}}, ("gossip.algorithm=overlap",)),
    "base": ({"graph": {"kind": "base", "peers": 6, "k": 1}},
             ("gossip.algorithm=multi-step", "gossip.parameters={exchanges: 3}")),
    "relay": ({"graph": {"kind": "ring", "peers": 6}},
              ("gossip.algorithm=relay", "gossip.parameters={spanning_tree: true}")),
    "lazy": ({"graph": {"kind": "chain", "peers": 6}, "weights": "lazy"},
             ("gossip.algorithm=multi-step", "gossip.parameters={exchanges: 2, chebyshev: true}")),
}


@pytest.mark.parametrize("name", RUNS)
def test_peers_end_with_the_simulators_model(real: Any, name: str) -> None:
    document, settings = RUNS[name]
    topology, config = parse(document, "test"), real.config("out", *settings)
    story = real.run(config, topology)
    assert story.exit_codes == dict.fromkeys(EVERYBODY, 0), str(story)
    assert all(one["left_out"] == [] and one["peers_dead"] == [] for one in story.summaries.values())
    exact = simulate(config, topology, federate(config, 6, workers=1), exact=True)
    assert torch.equal(real.rows(config, EVERYBODY), exact.final.rows.to(torch.float32))


@pytest.mark.parametrize("name", ["one-peer-exponential", "push-sum by clips", "relay"])
def test_killed_and_resumed_is_as_if_nothing_had_happened(real: Any, name: str) -> None:
    document, settings = RUNS[name]
    topology, config = parse(document, "test"), real.config("out", *settings)

    def kill(peers: Any, record: dict[str, Any]) -> None:
        if "kind" not in record and record["round"] == 7:
            for child in peers.children.values():
                child.process.kill()

    story = real.run(config, topology, kill)
    assert not story.summaries, str(story)
    assert all(available(real.peer_folder(config, i) / "checkpoint") for i in EVERYBODY)
    story = real.run(config, topology)
    assert story.exit_codes == dict.fromkeys(EVERYBODY, 0), str(story)
    assert any("resumes at round" in sentence for sentence in story.sentences(0))
    exact = simulate(config, topology, federate(config, 6, workers=1), exact=True)
    assert torch.equal(real.rows(config, EVERYBODY), exact.final.rows.to(torch.float32))


@pytest.mark.parametrize("name", ["one-peer-exponential", "push-sum by clips"])
def test_a_killed_peer_is_left_out_and_the_others_end_together(real: Any, furthest: Any, name: str) -> None:
    document, settings = RUNS[name]
    topology = parse(document, "test")
    config = real.config("out", *settings, "network.ping_after=0.3", "network.suspect_after=1.0",
                         "network.dead_after=3.0")

    def kill(peers: Any, record: dict[str, Any]) -> None:
        if record["reporter"] == 2 and "kind" not in record and record["round"] == 3:
            peers.kill(2)

    story = real.run(config, topology, kill)
    living = [i for i in EVERYBODY if i != 2]
    assert {i: story.exit_codes[i] for i in living} == dict.fromkeys(living, 0), str(story)
    assert all(one["peers_dead"] == [2] for one in story.summaries.values())
    assert {peer for one in story.summaries.values() for _, peer, _ in one["left_out"]} == {2}
    assert furthest(real.rows(config, living)) < 1e-6
