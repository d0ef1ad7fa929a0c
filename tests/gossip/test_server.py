"""Server federated learning: the round, the sample, refusals, lost messages and deaths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import torch
from lockstep import run

from p2pser.base.errors import ConfigError
from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.gossip.algorithm import Algorithm, State
from p2pser.gossip.algorithms.fedopt import DEFAULTS
from p2pser.gossip.mixer import Step
from p2pser.gossip.registry import create, validate
from p2pser.graph.spec import Topology
from p2pser.run import checkpoint
from p2pser.simulation.mixer import SimulatedMixer
from p2pser.wire.codec import Received

SERVER = Topology("server", nx.star_graph(6), {}, "metropolis", {}, hub=0)
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "fedavg": ("fedavg", {}),
    "fedavg, sampled": ("fedavg", {"sample": 0.5}),
    "scaffold": ("scaffold", {"lr": 0.8}),
    "scaffold, sampled": ("scaffold", {"sample": 0.34}),
    **{f"fedopt, {name}": ("fedopt", {"optimizer": name, "sample": 0.7}) for name in DEFAULTS},
}


def method(name: str, *settings: str, topology: Topology = SERVER, **parameters: Any) -> Algorithm:
    config = Config().with_settings(["training.momentum=0", f"gossip.algorithm={name}", *settings])
    made = create(name, parameters, config, topology)
    assert validate(made, config, topology) == ()
    return made


class Waves:
    """Local work that depends on the row, the peer and the round, with a row of memory."""

    steps = 2

    def __init__(self, peers: tuple[int, ...]) -> None:
        self.peers = torch.tensor(peers, dtype=torch.float32)[:, None]
        self.clips = tuple(10 + peer for peer in peers)
        self.trained: list[list[int]] = []

    def lr(self, round: int) -> float:
        return 0.1 / (1 + round)

    def train(self, state, round, *, rows=None, correction=None, only=None):
        x = (state.rows["x"] if rows is None else rows).clone()
        memory = state.rows.setdefault("memory", torch.zeros_like(x))
        chosen = sorted(only)
        self.trained.append([int(self.peers[b]) for b in chosen])
        for b in chosen:
            memory[b] = 0.5 * memory[b] + torch.sin(x[b] * (1 + self.peers[b]) + round)
            x[b] -= 0.1 * (memory[b] + (0 if correction is None else correction[b]))
        return x


def start(peers: int = 7) -> State:
    return State({"x": torch.linspace(-1, 1, 5).repeat(peers, 1)})


# ---- the sample --------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("sample", "count"), [(1.0, 6), (0.5, 3), (0.34, 2), (0.01, 1)])
def test_the_sample_is_a_function_of_seed_and_round(sample: float, count: int) -> None:
    ours, again, other = (method("fedavg", f"seed={seed}", sample=sample) for seed in (4, 4, 5))
    drawn = [ours.sampled(round) for round in range(200)]
    assert all(len(one) == count and 0 not in one for one in drawn)
    assert [again.sampled(round) for round in reversed(range(200))] == drawn[::-1]
    assert frozenset().union(*drawn) == {1, 2, 3, 4, 5, 6}
    assert (count == 6) == (drawn == [other.sampled(round) for round in range(200)])


def test_who_is_not_sampled_neither_trains_nor_sends_its_row() -> None:
    made, mixer, local = method("fedavg", sample=0.34), SimulatedMixer(SERVER), Waves(tuple(range(7)))
    state = run(made, start(), local, mixer, 10)
    assert local.trained == [sorted(made.sampled(round)) for round in range(10)]
    # A row of 5 numbers and a count, or the count alone; the hub sends its row to all.
    sent = [4 * sum(6 if i in made.sampled(round) else 1 for round in range(10)) for i in range(1, 7)]
    assert mixer.bytes_sent.tolist() == [10 * 6 * 5 * 4, *sent]
    idle = set(range(7)) - set().union(*map(set, local.trained))
    assert all(float(state.rows["memory"][i].abs().max()) == 0 for i in idle)


def test_the_mean_is_by_clips_where_that_is_asked_for() -> None:
    class Fixed(Waves):
        def train(self, state, round, *, rows=None, correction=None, only=None):
            return state.rows["x"] + self.peers

    for weighting, moved in (("uniform", 3.5), ("clips", sum(i * (10 + i) for i in range(1, 7)) / 81)):
        made = method("fedavg", f"gossip.weighting={weighting}")
        state = run(made, start(), Fixed(tuple(range(7))), SimulatedMixer(SERVER), 1)
        assert torch.allclose(state.rows["x"], start().rows["x"] + moved, atol=1e-6)


# ---- the same, however it is laid out, stopped or resumed --------------------------------------------------

@pytest.mark.parametrize("variant", VARIANTS)
def test_each_peer_alone_computes_what_all_compute_together(each_alone, variant: str) -> None:
    name, parameters = VARIANTS[variant]

    def alone(mixer) -> torch.Tensor:
        made = method(name, "gossip.weighting=clips", **parameters)
        return run(made, start(1), Waves(mixer.peers), mixer, 6).rows["x"][0]

    rows = each_alone(SERVER, alone)
    together = run(method(name, "gossip.weighting=clips", **parameters), start(), Waves(tuple(range(7))),
                   SimulatedMixer(SERVER, exact=True), 6).rows["x"]
    assert torch.equal(torch.stack([rows[i] for i in range(7)]), together)
    assert torch.equal(together, together[:1].expand_as(together))
    assert float((together - start().rows["x"]).abs().max()) > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_resumed_from_a_checkpoint_it_ends_bit_equal(tmp_path: Path, variant: str) -> None:
    name, parameters = VARIANTS[variant]

    def save(round: int, state: State) -> None:
        checkpoint.save(tmp_path, round, state.rows, state.edges, {})

    peers = tuple(range(7))
    whole = run(method(name, **parameters), start(), Waves(peers), SimulatedMixer(SERVER), 8, before_round=save)
    rows, edges, _ = checkpoint.load(tmp_path, 5)
    resumed = run(method(name, **parameters), State(rows, edges), Waves(peers), SimulatedMixer(SERVER), 8, 5)
    assert all(torch.equal(resumed.rows[key], whole.rows[key]) for key in whole.rows)
    assert resumed.edges.keys() == whole.edges.keys()
    for edge, one in whole.edges.items():
        assert all(torch.equal(resumed.edges[edge][key], value) for key, value in one.items())


def test_a_round_changes_nothing_of_a_snapshot_taken_before_it() -> None:
    made, mixer, local = method("scaffold"), SimulatedMixer(SERVER), Waves(tuple(range(7)))
    state = run(made, start(), local, mixer, 2)
    edges = state.edges
    held = {edge: {name: value.clone() for name, value in one.items()} for edge, one in edges.items()}
    x = state.rows["x"]
    before = x.clone()
    made.round(state, local, mixer, 2)
    assert torch.equal(x, before)
    assert all(torch.equal(edges[edge][name], value) for edge, one in held.items() for name, value in one.items())


def test_server_momentum_of_none_is_fedavg_and_adam_is_the_papers_formula() -> None:
    rows: dict[str, torch.Tensor] = {}
    for key, (name, parameters) in {"fedavg": ("fedavg", {}),
                                    "none": ("fedopt", {"optimizer": "sgdm", "beta1": 0.0}),
                                    "adam": ("fedopt", {"optimizer": "adam", "lr": 0.3, "tau": 0.01})}.items():
        made, local = method(name, **parameters), Waves(tuple(range(7)))
        rows[key] = run(made, start(), local, SimulatedMixer(SERVER), 1).rows["x"]
    assert torch.allclose(rows["none"], rows["fedavg"], atol=1e-6)
    step = rows["fedavg"] - start().rows["x"]
    expected = start().rows["x"] + 0.3 * 0.1 * step / ((0.99 * 1e-4 + 0.01 * step**2).sqrt() + 0.01)
    assert torch.allclose(rows["adam"], expected, atol=1e-6)


# ---- faults ------------------------------------------------------------------------------------------------

class Losing(SimulatedMixer):
    """A mixer that loses chosen messages, {(step, dst, src)}."""

    lose: frozenset[tuple[Step, int, int]] = frozenset()

    def _message(self, at: Step, posted: Any, dst: int, src: int) -> Received | None:
        return None if (at, dst, src) in self.lose else super()._message(at, posted, dst, src)


def test_a_client_that_missed_the_download_waits_for_the_next() -> None:
    mixer, local = Losing(SERVER), Waves(tuple(range(7)))
    mixer.lose = frozenset({(Step(1, 1), 4, 0)})
    seen: list[torch.Tensor] = []
    run(method("fedavg"), start(), local, mixer, 4, after_round=lambda _, state: seen.append(state.rows["x"].clone()))
    assert local.trained == [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6], [1, 2, 3, 5, 6], [1, 2, 3, 4, 5, 6]]
    assert torch.equal(seen[1][4], seen[0][4])
    assert torch.equal(seen[2], seen[2][:1].expand_as(seen[2]))


def test_an_upload_that_is_lost_is_left_out_of_the_mean_and_all_lost_leave_the_model_as_it_was() -> None:
    class Fixed(Waves):
        def train(self, state, round, *, rows=None, correction=None, only=None):
            return state.rows["x"] + self.peers

    mixer = Losing(SERVER)
    mixer.lose = frozenset({(Step(0, 0), 0, 6), *((Step(1, 0), 0, i) for i in range(1, 7))})
    state = run(method("fedavg"), start(), Fixed(tuple(range(7))), mixer, 2)
    assert torch.allclose(state.rows["x"], start().rows["x"] + 3.0, atol=1e-6)


def test_without_its_hub_a_client_cannot_go_on_and_a_hub_not_without_clients() -> None:
    made = method("fedavg")
    assert made.ends(3, {0}) == "the hub, peer 0, is lost, and no other peer averages"
    assert made.ends(0, {1, 2, 3, 4, 5}) is None
    assert made.ends(0, {1, 2, 3, 4, 5, 6}) == "no client is left"
    assert made.ends(3, set()) is None
    assert create("dfedavg", {}, Config(), SERVER).ends(3, {2, 4}) is None


@pytest.mark.parametrize(("value", "said"), [
    (b"12345678", "bytes where a row is due"), (torch.zeros(3), "a row of 3 numbers where 6 or 1 are due"),
    (torch.zeros(0), "a row of 0"), (torch.zeros(6), "0 as its number of clips"),
    (torch.full((6,), torch.inf), "not finite"), (torch.tensor([torch.nan]), "not finite"),
    (torch.tensor([2.0]), "2 as its number of clips"),
    (torch.tensor([1e9, 0.0, 0.0, 0.0, 0.0, 1.0]), "not plausible"),
])
def test_an_upload_of_another_form_is_a_strike_and_left_out_of_the_mean(value: Any, said: str, lying: Any) -> None:
    mixer = lying(SERVER, 1, 0, value)
    state = run(method("fedavg"), start(), Waves(tuple(range(7))), mixer, 1)
    assert [(edge, said in reason) for edge, _, reason in mixer.strikes] == [((0, 1), True)]
    lost = Losing(SERVER)
    lost.lose = frozenset({(Step(0, 0), 0, 1)})
    assert torch.equal(state.rows["x"], run(method("fedavg"), start(), Waves(tuple(range(7))), lost, 1).rows["x"])


@pytest.mark.parametrize("value", [b"", torch.zeros(4), torch.full((5,), torch.nan), torch.full((5,), 1e9)])
def test_a_download_of_another_form_is_a_strike_and_the_client_waits_for_the_next(value: Any, lying: Any) -> None:
    mixer = lying(SERVER, 0, 4, value)
    state = run(method("fedavg"), start(), Waves(tuple(range(7))), mixer, 1)
    assert [edge for edge, _, _ in mixer.strikes] == [(4, 0)]
    assert state.rows["stale"].flatten().tolist() == [0, 0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize(("name", "parameters", "settings", "said"), [
    ("fedavg", {"sample": 0.0}, (), "sample = 0.0 must be above 0 and at most 1"),
    ("fedavg", {"sample": 1.5}, (), "sample = 1.5 must be"),
    ("fedopt", {"optimizer": "adm"}, (), "no 'adm'.*'adam'"),
    ("fedopt", {"lr": 0.0}, (), "lr and tau above 0"),
    ("fedopt", {"tau": 0.0}, (), "lr and tau above 0"),
    ("fedopt", {"beta2": 1.0}, (), r"beta2 in \[0, 1\)"),
    ("scaffold", {}, ("training.momentum=0.9",), "training.momentum=0"),
    ("scaffold", {}, ("training.optimizer=adamw",), "training.optimizer=sgd"),
    ("scaffold", {"lr": -1.0}, (), "lr = -1.0 must be above 0"),
])
def test_what_has_no_meaning_is_refused(name: str, parameters: dict[str, Any], settings: tuple[str, ...],
                                        said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        method(name, *settings, **parameters)


def test_servers_need_a_hub_and_gossip_has_no_use_for_one() -> None:
    served = [name for name, kind in ALGORITHMS.items() if kind.served]
    assert served == ["fedavg", "fedopt", "scaffold"]
    star = Topology("star", nx.star_graph(6), {}, "metropolis", {})
    for name in served:
        with pytest.raises(ConfigError, match=f"algorithm={name} needs a topology with a hub, and 'star' has none"):
            method(name, topology=star)
    with pytest.raises(ConfigError, match=r"dfedavg has no use for a hub, and 'server' has one \(peer 0\)"):
        method("dfedavg")
