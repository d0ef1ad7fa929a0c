"""Theorem 5: with compressed messages the peers converge linearly to the mean of their initial rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from courses import run_until
from lockstep import run

from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.algorithms.choco import proven_step
from p2pser.gossip.registry import create
from p2pser.graph.spec import parse
from p2pser.simulation.mixer import Faults, SimulatedMixer

RING = parse({"graph": {"kind": "ring", "peers": 8}}, "test")
SHAPES = ((16, 24), (16,), (8, 16), (8,))
SIZE = 16 * 24 + 16 + 8 * 16 + 8


class Nothing:
    """Local work without any step, for consensus alone."""

    steps, shapes = 1, SHAPES

    def train(self, state, round):
        return state.rows["x"]


def algorithm(name, parameters=None, config=None, topology=RING):
    return create(name, parameters or {}, config or Config(), topology)


def agree(method, rounds, *, size=SIZE, topology=RING, faults=None, dtype=torch.float64, until=1e-6, start=None):
    """Return (distances of random rows to the mean after each exchange, over the first; the drift of the mean)."""
    x = torch.randn(topology.size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    x = x if start is None else start
    mean, first = x.mean(0), float((x - x.mean(0)).norm())
    # No equal initial rows here: the copies begin at zero.
    state = State({"x": x, "copy": torch.zeros_like(x)} if method.name == "choco" else {"x": x})
    mixer = SimulatedMixer(topology, faults=faults, slots=method.slots)
    seen = []

    def reached(round, state):
        now = state.rows["x"]
        seen.append(float((now - now.mean(0)).norm()) / first)
        return seen[-1] < until or not seen[-1] < 1e6

    state = run_until(reached, method, state, Nothing(), mixer, rounds)
    return np.array(seen), float((state.rows["x"].mean(0) - mean).norm()) / first


COMPRESSORS = {
    "top-k": ({}, 800),
    "top-k 10 % as they are": ({"share": 0.1, "bits": 32}, 400),
    "random-k 10 %": ({"compressor": "random-k", "share": 0.1}, 1000),
    "sign": ({"compressor": "sign"}, 1000),
    "qsgd": ({"compressor": "qsgd"}, 270),
    "qsgd of 1 level": ({"compressor": "qsgd", "levels": 1}, 1700),
    "8-bit": ({"compressor": "8-bit"}, 135),
    "low-rank of 2": ({"compressor": "low-rank", "rank": 2}, 540),
    "dense": ({"compressor": "dense"}, 135),
}


@pytest.mark.parametrize(("parameters", "rounds"), COMPRESSORS.values(), ids=COMPRESSORS.keys())
def test_choco_agrees_linearly_with_each_compressor_and_its_default_step(parameters, rounds):
    seen, drift = agree(algorithm("choco", parameters), rounds, until=1e-4)
    assert seen[-1] < 1e-4, f"{seen[-1]:.1e} after {len(seen)} exchanges"
    assert drift <= 1e-13
    # Linearly: the second half of the decades takes no more than 2.5 times the exchanges of the first.
    half = int(np.argmax(seen < 1e-2))
    assert len(seen) <= 3.5 * half


def test_choco_with_one_percent_on_a_ring_of_8_within_5000_exchanges():
    seen, drift = agree(algorithm("choco", {"share": 0.01}), 5000, size=600)
    assert seen[-1] < 1e-6
    assert 500 < len(seen) < 5000
    assert drift <= 1e-13


def test_the_mean_is_kept_to_rounding_in_float32():
    seen, drift = agree(algorithm("choco", {"share": 0.1}), 250, dtype=torch.float32, until=0.0)
    assert seen[-1] < 1e-4
    assert drift <= 1e-6


def test_choco_without_loss_is_gossip():
    x = torch.randn(8, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    state = State({"x": x, "copy": torch.zeros_like(x)})
    state = run(algorithm("choco", {"compressor": "dense"}), state, Nothing(), SimulatedMixer(RING), 5)
    W = torch.from_numpy(RING.matrix().copy())
    assert torch.allclose(state.rows["x"], torch.linalg.matrix_power(W, 5) @ x, rtol=0, atol=1e-12)


def test_the_proven_step_is_the_published_one_and_converges():
    W = RING.matrix()
    rho, beta = 1 - (1 / 3 + 2 / 3 * np.cos(np.pi / 4)), 4 / 3
    expected = rho**2 * 0.5 / (16 * rho + rho**2 + 4 * beta**2 + 2 * rho * beta**2 - 8 * rho * 0.5)
    assert proven_step(W, 0.5) == pytest.approx(expected, rel=1e-9)
    seen, _ = agree(algorithm("choco", {"share": 0.5, "gamma": proven_step(W, 0.5)}), 400)
    # The theorem's rate, 1 - rho^2 delta / 82 for the squared distances of rows and copies.
    assert seen[-1] <= np.sqrt(1 - rho**2 * 0.5 / 82) ** 400 * np.sqrt(2) * 2
    assert seen[-1] < seen[200] < seen[0]


def test_power_gossip_agrees_linearly_and_keeps_the_mean():
    seen, drift = agree(algorithm("power-gossip"), 700, until=1e-3)
    assert seen[-1] < 1e-3, f"{seen[-1]:.1e} after {len(seen)} exchanges"
    assert drift <= 1e-13
    assert len(seen) <= 3.5 * int(np.argmax(seen < 10**-1.5))


def test_power_gossip_is_nearly_as_fast_as_plain_gossip_where_all_differ_along_one_rank_one_matrix():
    draw = torch.Generator().manual_seed(0)
    x = torch.zeros(8, SIZE, dtype=torch.float64)
    weight = torch.randn(16, 1, generator=draw, dtype=torch.float64) @ torch.ones(1, 24, dtype=torch.float64)
    for i in range(8):
        x[i, : 16 * 24] = weight.flatten() * (-1.7) ** i
    seen, _ = agree(algorithm("power-gossip"), 400, start=x)
    plain, _ = agree(algorithm("dfedavg"), 400, start=x)
    assert seen[-1] < 1e-6
    assert len(seen) <= 2 * len(plain)


@pytest.mark.parametrize(("name", "parameters"), [
    ("choco", {"share": 0.2}), ("choco", {"compressor": "qsgd"}), ("choco", {"compressor": "random-k", "share": 0.2}),
    ("power-gossip", {}),
])
def test_lost_messages_cost_time_but_not_the_mean(name, parameters):
    faults = Faults(loss=0.1, delay=0.05, until=60, seed=3)
    seen, drift = agree(algorithm(name, parameters), 2000, faults=faults, until=1e-3)
    assert seen[-1] < 1e-3, f"{seen[-1]:.1e} after {len(seen)} exchanges"
    assert drift <= 1e-12
