"""First-order algorithms: one process a peer against one for all, resumed runs, late rows, refusals."""

from __future__ import annotations

import pytest
import torch
from lockstep import run

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.mixer import Late, Outbox, Step
from p2pser.gossip.registry import create
from p2pser.gossip.stacked import mix_keeping_flows, settle_both
from p2pser.graph.mixing import metropolis
from p2pser.graph.spec import parse
from p2pser.simulation.mixer import Faults, SimulatedMixer

RING = parse({"graph": {"kind": "ring", "peers": 5}}, "test")
PLAIN = ["d-psgd", "quasi-global-momentum", "d2", "gradient-tracking", "k-gt"]
"""Those that need plain gradient steps."""
NAMES = [*PLAIN, "noloco", "gasloc"]
WIDTH = 11


class Waves:
    """Local work in float32 that differs by peer and round: gradients of sums of cosines."""

    steps = 1

    def __init__(self, peers, steps=1):
        self.peers, self.steps = peers, steps

    def lr(self, round):
        return 0.1 / (1 + round)

    def gradient(self, rows, round, step=0):
        own = 1 + torch.tensor(self.peers, dtype=torch.float32)[:, None]
        return torch.sin(rows * own + 0.3 * round + step)

    def train(self, state, round, *, rows=None, correction=None):
        x = (state.rows["x"] if rows is None else rows).clone()
        for step in range(self.steps):
            gradient = self.gradient(x, round, step)
            x = x - self.lr(round) * (gradient if correction is None else gradient + correction)
        return x


def algorithm(name, parameters=None, config=None, topology=RING):
    return create(name, parameters or {}, config or Config(), topology)


def start(size=5):
    return torch.randn(size, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
def test_each_alone_equals_the_exact_simulation_bit_for_bit(name, each_alone):
    steps = 3 if name in ("k-gt", "quasi-global-momentum", "noloco", "gasloc") else 1
    mixer = SimulatedMixer(RING, exact=True)
    together = run(algorithm(name), State({"x": start()}), Waves(mixer.peers, steps), mixer, 6)

    def one(solo):
        state = State({"x": start()[solo.peer :][:1].clone()})
        return run(algorithm(name), state, Waves(solo.peers, steps), solo, 6)

    alone = each_alone(RING, one)
    for key, rows in together.rows.items():
        assert all(torch.equal(alone[i].rows[key][0], rows[i]) for i in range(5)), key


@pytest.mark.parametrize("name", NAMES)
def test_resumed_from_a_checkpoint_equals_uninterrupted(name, whole_and_resumed):
    whole, resumed = whole_and_resumed(lambda: algorithm(name), start, Waves(range(5)), RING)
    assert resumed.rows.keys() == whole.rows.keys()
    assert all(torch.equal(resumed.rows[key], rows) for key, rows in whole.rows.items())


@pytest.mark.parametrize("name", NAMES)
def test_rows_given_to_a_run_are_not_changed(name):
    x = start()
    run(algorithm(name), State({"x": x}), Waves(range(5)), SimulatedMixer(RING), 3)
    assert torch.equal(x, start())


def test_d2_is_the_published_recursion():
    x, work = start().double(), Waves(range(5))
    work.lr = lambda round: 0.05
    found = run(algorithm("d2"), State({"x": x}), work, SimulatedMixer(RING), 7).rows["x"]
    V = (torch.eye(5, dtype=torch.float64) + torch.from_numpy(metropolis(RING.graph).copy())) / 2
    before, gradient = x, work.gradient(x, 0)
    now = V @ (x - 0.05 * gradient)
    for round in range(1, 7):
        new = work.gradient(now, round)
        before, now, gradient = now, V @ (2 * now - before - 0.05 * (new - gradient)), new
    assert torch.allclose(found, now, rtol=0, atol=1e-12)


def arrivals(mixer, slot):
    """Return the late rows that arrive at an exchange of bytes after the last round."""
    edges = {(i, j): b"" for i in mixer.peers for j in mixer.topology.neighbours(i)}
    mixer.post(Step(12, slot), Outbox(edges=edges))
    return mixer.collect_messages(Step(12, slot), lambda edge, message: message.octets(0)).late


@pytest.mark.parametrize(("name", "kept"), [
    ("d2", lambda s: s.rows["x"] - s.rows["psi"]),
    ("gradient-tracking", lambda s: s.rows["y"] - s.rows["gradient"]),
    ("k-gt", lambda s: s.rows["c"]),
])
def test_the_conserved_sum_is_kept_through_what_is_settled_after_the_last_round_too(name, kept):
    ring = parse({"graph": {"kind": "ring", "peers": 8}}, "test")
    mixer = SimulatedMixer(ring, faults=Faults(delay=0.3, seed=1))
    method = algorithm(name)
    state = run(method, State({"x": start(8).double()}), Waves(range(8)), mixer, 12)
    assert float(kept(state).sum(0).abs().max()) > 1e-3  # rows are on their way
    mixer.faults = None
    came = 0
    for slot in range(5):
        late = arrivals(mixer, slot)
        came += len(late)
        method.settle(state, late, mixer.peers)
    assert came > 0
    assert mixer.lost == 0
    assert float(kept(state).sum(0).abs().max()) <= 1e-12


def test_wide_rows_are_mixed_as_one_and_come_apart_again():
    a, b = start(), start()[:, :3] * 2
    mixer = SimulatedMixer(RING)
    mixed_a, mixed_b = mix_keeping_flows(State({}), mixer, Step(0, 0), a, b)
    assert torch.allclose(mixed_a, SimulatedMixer(RING).mix(a, Step(0, 0)))
    assert torch.allclose(mixed_b, SimulatedMixer(RING).mix(b, Step(0, 0)))
    assert mixer.bytes_sent.tolist() == [2 * 4 * (WIDTH + 3)] * 5
    wide, state = torch.arange(6.0), State({"x": torch.zeros(1, 3), "y": torch.zeros(1, 3)})
    settle_both(state, [Late((0, 1), Step(0, 0), 0.5, wide, -wide)], (0,), "y")
    assert state.rows["x"].tolist() == [[0, -1, -2]]
    assert state.rows["y"].tolist() == [[-3, -4, -5]]


ONE_STEP = {"training.local_steps": 1, "training.momentum": 0.0, "training.schedule": "constant"}


def config(name, **settings):
    chosen = {**ONE_STEP, "gossip.algorithm": name, **settings}
    return Config().with_settings(f"{key}={value}" for key, value in chosen.items())


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_fits_has_no_warning(name):
    assert tuple(algorithm(name).validate(config(name), RING)) == ()


@pytest.mark.parametrize(("name", "settings", "said"), [
    ("d-psgd", {"training.local_steps": 5}, "d-psgd takes one gradient a round.*local_steps=1.*dfedavg"),
    ("d2", {"training.local_steps": 2}, "training.local_steps is 2.*k-gt"),
    ("gradient-tracking", {"training.local_steps": 2}, "use gossip.algorithm=k-gt"),
    *((name, {"training.momentum": 0.9}, "training.momentum is 0.9: set training.momentum=0") for name in PLAIN),
    *((name, {"training.optimizer": "adamw"}, "training.optimizer is adamw: set training") for name in PLAIN),
    ("d2", {"training.schedule": "cosine"}, "set training.schedule=constant"),
    ("d2", {"gossip.weighting": "clips"}, "set gossip.weighting=uniform"),
])
def test_what_a_setting_makes_meaningless_is_refused(name, settings, said):
    with pytest.raises(ConfigError, match=said):
        algorithm(name).validate(config(name, **settings), RING)


@pytest.mark.parametrize(("name", "kind", "said"), [
    ("dfedavg", "random-digraph", "dfedavg averages rows.*push-sum"),
    ("d-psgd", "random-digraph", "push-sum"),
    ("quasi-global-momentum", "random-digraph", "column-stochastic.*push-sum"),
    ("noloco", "random-digraph", "column-stochastic.*push-sum"),
    ("gasloc", "random-digraph", "column-stochastic.*push-sum"),
    ("d2", "one-peer-exponential", "static undirected graph"),
    ("d2", "directed-ring", "static undirected graph"),
    ("gradient-tracking", "random-digraph", "needs doubly stochastic.*column-stochastic.*push-sum"),
    ("gradient-tracking", "epidemic-local", "row-stochastic"),
    ("k-gt", "random-digraph", "needs doubly stochastic"),
])
def test_what_a_graph_makes_meaningless_is_refused(name, kind, said):
    graph = {"kind": kind, "peers": 8}
    if kind == "epidemic-local":
        graph = {"kind": "epidemic", "form": "local", "peers": 8, "s": 2}
    with pytest.raises(ConfigError, match=said):
        algorithm(name).validate(config(name), parse({"graph": graph}, "test"))


@pytest.mark.parametrize(("name", "kind"), [
    ("d-psgd", "one-peer-exponential"), ("quasi-global-momentum", "directed-ring"),
    ("gradient-tracking", "one-peer-exponential"), ("gradient-tracking", "directed-ring"), ("k-gt", "random-matching"),
    ("noloco", "random-matching"), ("gasloc", "one-peer-exponential"),
])
def test_doubly_stochastic_schedules_are_welcome(name, kind):
    where = parse({"graph": {"kind": kind, "peers": 8}}, "test")
    assert tuple(algorithm(name).validate(config(name), where)) == ()


@pytest.mark.parametrize(("name", "parameters", "said"), [
    ("quasi-global-momentum", {"momentum": 1.0}, "momentum = 1 must be at least 0 and below 1"),
    ("quasi-global-momentum", {"decay": -0.1}, "decay = -0.1"),
    ("noloco", {"momentum": 1.0}, "momentum = 1 must be at least 0 and below 1"),
    ("noloco", {"rate": 0.0}, "rate = 0 must be above 0 and finite"),
    ("noloco", {"momentum": 0.25, "pull": 1.5}, r"pull = 1.5 must be above 0 and at most 1 \+ momentum = 1\.25"),
    ("gasloc", {"gossip": 0.0}, r"gossip = 0 must be above 0 and at most 1 \+ momentum = 1\.5"),
    ("gasloc", {"momentum": -0.5}, "momentum = -0.5 must be at least 0"),
    ("overlap", {"momentum": 1.0}, "momentum = 1 must be at least 0 and below 1"),
    ("mosaic", {"momentum": 1.0}, "momentum = 1 must be at least 0 and below 1"),
    ("mosaic", {"exchanges": 0}, "exchanges = 0 must be 1 or more"),
    ("k-gt", {"communication_rate": 0.0}, "communication_rate = 0 must be above 0"),
])
def test_parameters_out_of_range_are_refused(name, parameters, said):
    with pytest.raises(ConfigError, match=said):
        algorithm(name, parameters)
