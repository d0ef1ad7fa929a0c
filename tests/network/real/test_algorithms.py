"""Every synchronous algorithm between real processes: the simulator's bits, and the same after all were killed."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
import torch

from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.features.federation import federate
from p2pser.gossip.algorithm import State
from p2pser.gossip.registry import create
from p2pser.graph.spec import Topology, load, parse
from p2pser.run.checkpoint import load as load_checkpoint
from p2pser.simulation.engine import simulate

PEERS = 6
EVERYBODY = range(PEERS)
ROUNDS = 12
FIRST_DEATH = 5
"""After this round the first peer is killed: so late that all have a checkpoint, so early that nobody can end."""

PLAIN = "training.momentum=0"
SINGLE = ("training.local_steps=1", PLAIN)
CLIPS = "gossip.weighting=clips"
DIGRAPH = {"graph": {"kind": "random-digraph", "peers": PEERS, "seed": 3}}
MATCHING = {"graph": {"kind": "random-matching", "peers": PEERS, "seed": 1}}
REGULAR = {"graph": {"kind": "random-regular", "peers": PEERS, "degree": 4, "seed": 1}}
LAZY = {"graph": {"kind": "chain", "peers": PEERS}, "weights": "lazy"}

CASES: dict[str, tuple[str | dict[str, Any], tuple[str, ...]]] = {
    "dfedavg": ("ring", ("training.optimizer=adamw", CLIPS)),
    "dfedavg on base-2": ("base-2", ()),
    "d-psgd": ("one-peer-exponential", SINGLE),
    "quasi-global-momentum": ("ring", (PLAIN,)),
    "noloco": ("ring", ("training.optimizer=adamw", CLIPS)),
    "noloco on matchings": (MATCHING, ()),
    "gasloc": ("ring", ("gossip.parameters={momentum: 0.3}",)),
    "d2": ("ring", (*SINGLE, "training.schedule=constant")),
    "gradient-tracking": ("ring", (*SINGLE, CLIPS)),
    "gradient-tracking on base-2": ("base-2", SINGLE),
    "k-gt": ("ring", (PLAIN,)),
    "push-sum": ("directed-ring", ()),
    "push-sum by clips": (DIGRAPH, (CLIPS,)),
    "overlap": ("ring", (CLIPS,)),
    "overlap on matchings": (MATCHING, ()),
    "multi-step": ("base-2", ("gossip.parameters={exchanges: 3}",)),
    "multi-step, accelerated": (LAZY, ("gossip.parameters={exchanges: 2, chebyshev: true}",)),
    "relay": ("tree", (CLIPS,)),
    "relay on a spanning tree": ("ring", ("gossip.parameters={spanning_tree: true}",)),
    "choco": ("ring", ("gossip.parameters={compressor: top-k, share: 0.05, bits: 8}",)),
    "choco with qsgd": ("tree", ("gossip.parameters={compressor: qsgd}",)),
    "choco with low-rank": ("ring", ("gossip.parameters={compressor: low-rank}",)),
    "power-gossip": ("ring", ("gossip.parameters={iterations: 2}",)),
    "fedavg": ("server", ("gossip.parameters={sample: 0.5}", CLIPS, "features.normalise=global")),
    "fedopt": ("server", ("gossip.parameters={optimizer: yogi}",)),
    "scaffold": ("server", ("gossip.parameters={sample: 0.5}", PLAIN)),
    "self-centred-clipping": ("ring", ()),
    "median": ("ring", ()),
    "trimmed-mean": ("ring", ()),
    "krum": (REGULAR, ()),
    "secure-average": ("ring", (CLIPS,)),
    "trees": ("ring", ("model.name=xgb", "model.parameters.depth=2")),
}
"""The topology (shipped, or a document) and what is set: whatever has a memory, a draw or weights of its own is in."""
KILLED = [name for name in CASES if name not in (
    "overlap on matchings", "multi-step, accelerated", "relay on a spanning tree", "choco with qsgd")]


def of(name: str) -> str:
    """The algorithm of a case."""
    return name.partition(",")[0].partition(" ")[0]


@dataclass(frozen=True)
class Case:
    """A run that nobody disturbs, and the simulator's."""

    real: Any
    name: str
    topology: Topology

    def config(self, out: str) -> Config:
        config: Config = self.real.config(
            out, f"gossip.algorithm={of(self.name)}", f"training.rounds={ROUNDS}", "training.local_steps=2",
            "peer.checkpoint_every=2", *CASES[self.name][1], peers=PEERS)
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
    document = CASES[request.param][0]
    topology = load(document, peers=PEERS) if isinstance(document, str) else parse(document, "test")
    return Case(make_real(tmp_path_factory.mktemp("case")), request.param, topology)


def test_every_algorithm_is_here() -> None:
    synchronous = {name for name, kind in ALGORITHMS.items() if not kind.asynchronous}
    assert {of(name) for name in CASES} == {of(name) for name in KILLED} == synchronous


@pytest.mark.parametrize("case", CASES, indirect=True)
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

    story = case.real.run(config, case.topology, kill)
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

    story = real.run(config, load("ring", peers=PEERS), kill)
    living = [i for i in EVERYBODY if i != 2]
    assert {i: one["peers_dead"] for i, one in story.summaries.items()} == {i: [2] for i in living}
    assert all((one["agreed"], one["took_part"]) == (None, PEERS - 1) for one in story.summaries.values())
    assert {i: story.exit_codes[i] for i in living} == dict.fromkeys(living, 3), str(story)


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        assert torch.equal(one[name], other[name]), name
