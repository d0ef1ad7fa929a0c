"""PowerGossip: one process a peer against one for all, resumed runs, equal vectors at both ends, refusals."""

from __future__ import annotations

import pytest
import torch
from lockstep import run

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.gossip import factors
from p2pser.gossip.algorithm import State
from p2pser.gossip.both_ends import LOST, Marks
from p2pser.gossip.mixer import Step
from p2pser.gossip.registry import create, validate
from p2pser.graph.spec import parse
from p2pser.run import checkpoint
from p2pser.simulation.mixer import Faults, SimulatedMixer

RING = parse({"graph": {"kind": "ring", "peers": 5}}, "test")
SHAPES = ((6, 7), (6,), (4, 2, 3), (4,))
PARTS = ((6, 7), (6, 1), (4, 6), (4, 1))
WIDTH = 42 + 6 + 24 + 4


def algorithm(name, parameters=None, config=None, topology=RING):
    return create(name, parameters or {}, config or Config(), topology)


def start(size=5):
    return torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(0)).repeat(size, 1)


@pytest.mark.parametrize("iterations", [1, 3])
def test_each_alone_equals_the_exact_simulation_bit_for_bit(iterations, each_alone, waves):
    parameters = {"iterations": iterations}
    mixer = SimulatedMixer(RING, exact=True, slots=iterations)
    together = run(algorithm("power-gossip", parameters), State({"x": start()}), waves(mixer.peers, SHAPES), mixer, 5)

    def one(solo):
        return run(algorithm("power-gossip", parameters), State({"x": start(1)}), waves(solo.peers, SHAPES), solo, 5)

    alone = each_alone(RING, one, slots=iterations)
    assert all(torch.equal(alone[i].rows["x"][0], together.rows["x"][i]) for i in range(5))
    for (i, j), kept in together.edges.items():
        assert all(torch.equal(alone[i].edges[i, j][name], value) for name, value in kept.items())


def test_both_ends_of_an_edge_keep_the_same_vectors(waves):
    state = run(algorithm("power-gossip"), State({"x": start()}), waves(range(5), SHAPES), SimulatedMixer(RING), 6)
    for (i, j), kept in state.edges.items():
        assert torch.equal(kept["vectors"], state.edges[j, i]["vectors"])
        assert torch.equal(kept["moved"], -state.edges[j, i]["moved"])
        assert Marks.of(kept["marks"]) == Marks(5, 5, 4)


@pytest.mark.parametrize("faults", [None, Faults(loss=0.2, seed=2)], ids=["whole", "lossy"])
def test_resumed_from_a_checkpoint_equals_uninterrupted(faults, tmp_path, waves):
    work = waves(range(5), SHAPES)

    def keep(round, state):
        if round == 4:
            checkpoint.save(tmp_path, 4, state.rows, state.edges, {})

    whole = run(algorithm("power-gossip"), State({"x": start()}), work, SimulatedMixer(RING, faults=faults), 9,
                before_round=keep)
    found = checkpoint.load(tmp_path, 4)
    mixer = SimulatedMixer(RING, faults=faults)
    resumed = run(algorithm("power-gossip"), State(found.rows, found.edges), work, mixer, 9, 4)
    assert torch.equal(resumed.rows["x"], whole.rows["x"])


def test_a_message_is_one_vector_a_matrix_and_what_is_no_matrix(waves):
    mixer = SimulatedMixer(RING)
    run(algorithm("power-gossip"), State({"x": start()}), waves(range(5), SHAPES), mixer, 2)
    right, left = 6 + 4, 7 + 6
    assert mixer.bytes_sent.tolist() == [2 * (2 + 4 * (right + left + 2 * 10))] * 5


def test_equal_rows_have_no_direction_and_a_random_one_stands_in(waves):
    still = waves(range(5), SHAPES, amplitude=0.0)
    state = run(algorithm("power-gossip"), State({"x": start()}), still, SimulatedMixer(RING), 3)
    assert torch.equal(state.rows["x"], start())
    vectors = state.edges[0, 1]["vectors"]
    assert float(vectors.norm()) == pytest.approx(2**0.5, rel=1e-5)


def test_a_dead_neighbour_is_left_out(waves):
    method, mixer = algorithm("power-gossip"), SimulatedMixer(RING, dead={2: Step(3, 0)})
    state = run(method, State({"x": start()}), waves(range(5), SHAPES), mixer, 6)
    assert Marks.of(state.edges[1, 2]["marks"]).have == LOST
    assert torch.equal(state.edges[0, 1]["vectors"], state.edges[1, 0]["vectors"])
    state = run(method, state, waves(range(5), SHAPES), mixer, 8, 6)
    assert torch.equal(state.edges[0, 1]["vectors"], state.edges[1, 0]["vectors"])


def test_a_message_of_another_length_is_a_strike_and_missing(waves, lying):
    mixer = lying(RING, 3, 2, lambda m: m[:-1])
    state = run(algorithm("power-gossip"), State({"x": start()}), waves(range(5), SHAPES), mixer, 1)
    assert [edge for edge, _, _ in mixer.strikes] == [(2, 3)]
    assert Marks.of(state.edges[2, 3]["marks"]).have == LOST
    assert torch.isfinite(state.rows["x"]).all()


def test_products_and_what_they_span():
    row = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    M, bias = row[:42].view(6, 7), row[42:48]
    for side in (0, 1):
        vectors = factors.drawn(0, (1, 2), 3, PARTS, side, torch.float32)
        assert torch.equal(vectors, factors.drawn(0, (2, 1), 3, PARTS, side, torch.float32))
        assert len(vectors) == factors.length(PARTS, side) == (6 + 4 if side else 7 + 6)
        v = vectors[:6] if side else vectors[:7]
        assert float(v.norm()) == pytest.approx(1, rel=1e-6)
        products = factors.project(row, vectors, PARTS, side)
        assert len(products) == factors.length(PARTS, 1 - side) + sum(m for m, n in PARTS if n == 1)
        back = factors.expand(products, vectors, PARTS, side)
        along = torch.outer(v, v)
        assert torch.allclose(back[:42].view(6, 7), along @ M if side else M @ along, atol=1e-6)
        assert torch.equal(back[42:48], bias)
        turned = factors.turn(products, PARTS, side, vectors.clone)
        assert torch.allclose(turned[: 7 if side else 6] * (M.T @ v if side else M @ v).norm(),
                              M.T @ v if side else M @ v, atol=1e-6)


def test_what_has_no_meaning_is_refused():
    with pytest.raises(ConfigError, match="iterations"):
        algorithm("power-gossip", {"iterations": 0})
    config = Config().with_settings(["gossip.algorithm=power-gossip"])
    assert not list(validate(algorithm("power-gossip"), config, RING))
    schedule = parse({"graph": {"kind": "one-peer-exponential", "peers": 8}}, "test")
    with pytest.raises(ConfigError, match="symmetric"):
        validate(algorithm("power-gossip"), config, schedule)
    with pytest.raises(ConfigError, match="uniform"):
        validate(algorithm("power-gossip"), config.with_settings(["gossip.weighting=clips"]), RING)
