"""Several exchanges a round: slem^m, Chebyshev's polynomial, the mean conserved with late rows, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lockstep import run

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.registry import create, validate
from p2pser.graph.spec import parse
from p2pser.graph.spectral import slem
from p2pser.graph.theory import chebyshev as contraction
from p2pser.run import checkpoint
from p2pser.simulation.mixer import Faults, SimulatedMixer
from p2pser.wire.messages import SETTLE_WINDOW

GRAPHS = {name: parse(document, "test") for name, document in {
    "ring": {"graph": {"kind": "ring", "peers": 10}},
    "star": {"graph": {"kind": "star", "peers": 10}},
    "torus": {"graph": {"kind": "torus", "peers": 16}},
    "lazy": {"graph": {"kind": "chain", "peers": 9}, "weights": "lazy"},
}.items()}


class Still:
    """Local work that does nothing."""

    def train(self, state, round, *, rows=None, correction=None, only=None):
        return state.rows["x"].clone()


def config(*settings):
    return Config().with_settings(["gossip.algorithm=multi-step", *settings])


def method(where, **parameters):
    found = create("multi-step", parameters, config(), where)
    assert validate(found, config(), where) == ()
    return found


def rows(size, dtype=torch.float64):
    return torch.randn(size, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("m", [1, 2, 3, 7])
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("chebyshev", [False, True])
def test_a_round_contracts_as_theory_says_and_the_slowest_mode_exactly_so(slowest_mode, graph, m, chebyshev):
    where = GRAPHS[graph]
    rate = slem(where.matrix())
    bound = float(contraction(np.int64(m), rate)) if chebyshev else rate**m
    assert bound <= rate**m * (1 + 1e-12)
    x = rows(where.size)
    mixer = SimulatedMixer(where, slots=m)
    after = run(method(where, exchanges=m, chebyshev=chebyshev), State({"x": x}), Still(), mixer, 1).rows["x"]
    assert float((after.mean(0) - x.mean(0)).abs().max()) <= 1e-14
    assert float((after - x.mean(0)).norm()) <= bound * float((x - x.mean(0)).norm()) * (1 + 1e-9)
    slowest = torch.from_numpy(slowest_mode(where.matrix())[:, None].copy())
    found = run(method(where, exchanges=m, chebyshev=chebyshev), State({"x": slowest}), Still(), mixer, 1)
    assert float(found.rows["x"].norm()) == pytest.approx(bound, rel=1e-6)
    assert mixer.messages_sent.sum() == 2 * m * 2 * where.graph.number_of_edges()


def test_chebyshev_leads_more_the_slower_the_graph():
    where = GRAPHS["lazy"]
    rate = slem(where.matrix())
    assert contraction(np.int64(8), rate) < 0.6 * rate**8


def test_over_a_schedule_a_round_is_a_period():
    where, x = parse({"graph": {"kind": "one-peer-hypercube", "peers": 8}}, "test"), rows(8)
    state = run(method(where, exchanges=3), State({"x": x}), Still(), SimulatedMixer(where, slots=3), 1)
    assert float((state.rows["x"] - x.mean(0)).abs().max()) <= 1e-14


@pytest.mark.parametrize("chebyshev", [False, True])
def test_each_alone_equals_the_exact_simulation_and_a_resumed_run_the_uninterrupted(chebyshev, each_alone, tmp_path):
    where, parameters = GRAPHS["ring"], {"exchanges": 3, "chebyshev": chebyshev}
    x = rows(10, torch.float32)

    def go(state, mixer, rounds, begin=0):
        return run(method(where, **parameters), state, Still(), mixer, rounds, begin)

    together = go(State({"x": x}), SimulatedMixer(where, exact=True, slots=3), 5)
    alone = each_alone(where, lambda solo: go(State({"x": x[solo.peer :][:1].clone()}), solo, 5), slots=3)
    assert all(torch.equal(alone[i].rows["x"][0], together.rows["x"][i]) for i in range(10))
    half = go(State({"x": x}), SimulatedMixer(where, exact=True, slots=3), 2)
    checkpoint.save(tmp_path, 2, half.rows, half.edges, {})
    found = checkpoint.load(tmp_path, 2)
    resumed = go(State(found.rows, found.edges), SimulatedMixer(where, exact=True, slots=3), 5, 2)
    assert torch.equal(resumed.rows["x"], together.rows["x"])


@pytest.mark.parametrize("chebyshev", [False, True])
@pytest.mark.parametrize("graph", ["ring", "star"])
def test_late_rows_keep_the_mean(graph, chebyshev):
    where, x = GRAPHS[graph], rows(10)
    mixer = SimulatedMixer(where, faults=Faults(delay=0.1, longest=SETTLE_WINDOW - 1, until=60), slots=4)
    state = run(method(where, exchanges=4, chebyshev=chebyshev), State({"x": x}), Still(), mixer, 18)
    assert mixer.late > 30
    assert mixer.lost == 0
    assert float((state.rows["x"].mean(0) - x.mean(0)).abs().max()) <= 1e-13


def test_what_comes_after_the_last_round_is_settled_as_it_would_have_been():
    where, x = GRAPHS["ring"], rows(10)
    mixer = SimulatedMixer(where, faults=Faults(delay=0.3, longest=4, until=8), slots=4)
    one = method(where, exchanges=4, chebyshev=True)
    state = run(one, State({"x": x}), Still(), mixer, 2)
    assert float((state.rows["x"].mean(0) - x.mean(0)).abs().max()) > 1e-6
    one.settle(state, tuple(late for _, late in mixer._way), mixer.peers)
    assert float((state.rows["x"].mean(0) - x.mean(0)).abs().max()) <= 1e-14


@pytest.mark.parametrize(("document", "settings", "parameters", "match"), [
    ({"graph": {"kind": "random-digraph", "peers": 6, "seed": 4}}, [], {}, "push-sum"),
    ({"graph": {"kind": "one-peer-exponential", "peers": 6}}, [], {"chebyshev": True}, "static"),
    ({"graph": {"kind": "ring", "peers": 6}}, ["gossip.weighting=clips"], {"chebyshev": True}, "uniform"),
])
def test_what_has_no_meaning_is_refused(document, settings, parameters, match):
    where = parse(document, "test")
    with pytest.raises(ConfigError, match=match):
        validate(create("multi-step", parameters, config(*settings), where), config(*settings), where)


def test_clips_cannot_weigh_a_schedule():
    where = parse({"graph": {"kind": "one-peer-exponential", "peers": 6}}, "test")
    with pytest.raises(ConfigError, match="push-sum, which weighs by itself"):
        validate(create("multi-step", {}, config(), where), config("gossip.weighting=clips"), where)


def test_no_exchange_is_refused():
    with pytest.raises(ConfigError, match="1 or more"):
        create("multi-step", {"exchanges": 0}, config(), GRAPHS["ring"])
