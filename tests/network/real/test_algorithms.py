"""Synchronous algorithms between real processes: the simulator's bits, and the same after all were killed.

Here is one of each kind of message and memory; tests/network/schedules/test_same_bits.py has all of them, on simulated
sockets.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
import torch
from cases import PEERS, ROUNDS, settings, topology
from lives import Life

from p2pser.config import Config
from p2pser.features.federation import federate
from p2pser.gossip.algorithm import State
from p2pser.gossip.registry import create
from p2pser.graph.spec import Topology, load
from p2pser.run.checkpoint import load as load_checkpoint
from p2pser.simulation.engine import simulate

EVERYBODY = range(PEERS)
FIRST_DEATH = 5
"""After this round the first peer is killed, which stays there until then: by now all have a checkpoint."""
REAL = ("dfedavg", "gradient-tracking on base-2", "choco", "scaffold", "trees")
"""Rows, wide rows on a schedule, memory of edges, a server and its draws, bytes."""
KILLED = ("choco", "scaffold")


@dataclass(frozen=True)
class Case:
    """A run that nobody disturbs, and the simulator's."""

    real: Any
    name: str
    topology: Topology

    def config(self, out: str) -> Config:
        config: Config = self.real.config(out, *settings(self.name), peers=PEERS)
        return config

    @cached_property
    def whole(self) -> tuple[Config, Any]:
        """The undisturbed run's configuration and story."""
        config = self.config("whole")
        return config, self.real.run(config, self.topology)

    def ends(self, config: Config) -> list[State]:
        """All that each peer remembers when the rounds are over."""
        states = []
        for i in EVERYBODY:
            rows, edges, _ = load_checkpoint(self.real.peer_folder(config, i) / "checkpoint", ROUNDS)
            states.append(State(rows, edges))
        return states


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest, make_real: Any, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The case, whose undisturbed run the tests of it share."""
    return Case(make_real(tmp_path_factory.mktemp("case")), request.param, topology(request.param))


@pytest.mark.parametrize("case", REAL, indirect=True)
def test_network_and_simulator_have_the_same_bits(case: Case) -> None:
    config, story = case.whole
    assert story.exit_codes == dict.fromkeys(EVERYBODY, 0), str(story)
    method = create(config.gossip.algorithm, config.gossip.parameters, config, case.topology)
    federation = federate(config, PEERS, hub=case.topology.hub, workers=1)
    exact = simulate(config, case.topology, federation, exact=True)
    for one in story.summaries.values():
        assert one["left_out"] == one["peers_dead"] == []
        assert one["drift"] == 0
        assert one["consensus"] == (method.consensus or method.one_model) == (one["consensus_distance"] is not None)
    assert max(one["consensus_exchanges"] for one in story.summaries.values()) == exact.final.exchanges
    assert not any("given up" in sentence for i in EVERYBODY for sentence in story.sentences(i))
    trained = torch.cat([method.model(state) for state in case.ends(config)])
    assert torch.equal(trained, exact.rows)
    rows = case.real.rows(config, EVERYBODY)
    assert torch.equal(rows, exact.final.rows.to(torch.float32))
    if method.served:
        assert torch.equal(trained, trained[:1].expand_as(trained))  # the server's model, which no consensus changes
        assert torch.equal(rows, trained)
        assert {one["loss"] for one in story.records if "kind" not in one and one["reporter"] == 0} == {None}
    fast = simulate(config, case.topology, federation)
    assert float(torch.linalg.vector_norm(fast.rows - trained) / torch.linalg.vector_norm(trained)) < 1e-5


@pytest.mark.parametrize("case", KILLED, indirect=True)
def test_all_killed_and_started_again_end_as_if_nothing_had_happened(case: Case) -> None:
    whole, _ = case.whole
    config = case.config("torn").with_settings(["network.ping_after=0.1", "network.suspect_after=0.3"])
    killed: set[int] = set()

    def kill(peers: Any, record: dict[str, Any]) -> None:
        me, ended = record["reporter"], record["round"] if "kind" not in record else -1
        due = {me} if ended >= FIRST_DEATH + me else set()
        if killed and record.get("kind") == "suspect":
            due = set(EVERYBODY)  # by now the first death has stopped each of them, the sooner the nearer it is
        for peer in due - killed:
            killed.add(peer)
            peers.kill(peer)

    story = case.real.run(config, case.topology, kill, lives={0: Life(held_after=FIRST_DEATH)})
    assert story.exit_codes == dict.fromkeys(EVERYBODY, -signal.SIGKILL), str(story)
    story = case.real.run(config, case.topology)
    assert story.exit_codes == dict.fromkeys(EVERYBODY, 0), str(story)
    resumed = {one["round"] for i in EVERYBODY for one in case.real.events(config, i, "resumed")}
    assert len(resumed) == 1
    assert 0 < resumed.pop() < ROUNDS
    for one, other in zip(case.ends(whole), case.ends(config)):
        assert_same(one.rows, other.rows)
        assert one.edges.keys() == other.edges.keys()
        for edge in one.edges:
            assert_same(one.edges[edge], other.edges[edge])
    assert torch.equal(case.real.rows(config, EVERYBODY), case.real.rows(whole, EVERYBODY))


def test_without_a_consensus_the_dead_are_told_and_those_who_ended_first_are_not_among_them(real: Any) -> None:
    config = real.config("out", "gossip.algorithm=median", "network.ping_after=0.3", "network.suspect_after=1.0",
                         "network.dead_after=3.0")

    def kill(peers: Any, record: dict[str, Any]) -> None:
        if record["reporter"] == 2 and "kind" not in record and record["round"] == 3:
            peers.kill(2)

    story = real.run(config, load("ring", peers=PEERS), kill, lives={2: Life(held_after=3)})
    living = [i for i in EVERYBODY if i != 2]
    assert {i: one["peers_dead"] for i, one in story.summaries.items()} == {i: [2] for i in living}
    assert all((one["agreed"], one["took_part"]) == (None, PEERS - 1) for one in story.summaries.values())
    assert {i: story.exit_codes[i] for i in living} == dict.fromkeys(living, 3), str(story)


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        assert torch.equal(one[name], other[name]), name
