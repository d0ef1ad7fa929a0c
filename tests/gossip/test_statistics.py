"""Statistics over all peers' clips equal the statistics of the pooled clips."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

from p2pser.gossip.agreement.consensus import living_slem
from p2pser.gossip.agreement.statistics import relative_sums, statistics
from p2pser.graph.spec import Topology
from p2pser.simulation.mixer import SimulatedMixer
from p2pser.wire.codec import Received

TOPOLOGY = Topology("ring", nx.cycle_graph(9), {}, "metropolis", {})


def clips() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    scale, shift = np.logspace(-3, 4, 20), draw.normal(size=20)
    return [(draw.normal(size=(draw.integers(1, 60), 20)) + shift) * scale for _ in range(9)]


def sums(x: np.ndarray) -> np.ndarray:
    return np.concatenate([[len(x)], x.sum(0), (x**2).sum(0)])


def gossiped(counts: dict[int, int] | None) -> tuple[np.ndarray, np.ndarray]:
    rows = torch.from_numpy(np.stack([sums(x) for x in clips()]))
    slem = living_slem(TOPOLOGY, None, (), 0)
    found = statistics(SimulatedMixer(TOPOLOGY, counts=counts), rows, -1, TOPOLOGY, slem=slem)
    assert found.converged
    row = found.rows.numpy()
    mean = row[:, 1:21] / row[:, :1]
    return mean, np.sqrt(row[:, 21:] / row[:, :1] - mean**2)


def test_equal_to_the_pooled_statistics_on_every_peer():
    pooled = np.concatenate(clips())
    mean, std = gossiped(None)
    assert np.abs((mean - pooled.mean(0)) / pooled.std(0)).max() <= 1e-9
    assert np.abs(std / pooled.std(0) - 1).max() <= 1e-9


def test_uniform_whatever_the_mixers_weighting():
    counts = {i: len(x) for i, x in enumerate(clips())}
    assert np.allclose(gossiped(counts)[0], gossiped(None)[0], rtol=1e-11, atol=0)


def test_it_goes_on_until_a_small_feature_agrees_though_a_large_one_does_at_once():
    # [count, sum a, sum b, sum a^2, sum b^2]: feature a is small and differs, b is large and the same everywhere.
    rows = torch.tensor([[8.0, 1e-6 * i, 8e6, 1e-8 * (1 + i), 8e12] for i in range(9)], dtype=torch.float64)
    slem = living_slem(TOPOLOGY, None, (), 0)
    found = statistics(SimulatedMixer(TOPOLOGY), rows, -1, TOPOLOGY, slem=slem)
    assert found.converged
    expected = torch.tensor([8.0, 4e-6, 8e6, 5e-8, 8e12], dtype=torch.float64)
    assert float(((found.rows - expected).abs() / expected).max()) <= 1e-10


@pytest.mark.parametrize(("place", "difference", "expected"), [
    (0, 1.0, 0.1),  # a count of 10
    (1, 1e-6, 1e-6 / (10 * 4e-10) ** 0.5), (2, 1e5, 1e5 / (10 * 9e12) ** 0.5),  # sums: sqrt(count * sum of squares)
    (4, 1e-10, 0.25), (5, 9e11, 0.1),  # sums of squares
])
def test_each_element_is_measured_by_its_own_scale(place, difference, expected):
    a = torch.tensor([10.0, 1e-6, 1e6, 0.0, 4e-10, 9e12, 0.0], dtype=torch.float64)
    b = a.clone()
    b[place] += difference
    assert relative_sums(a, b) == pytest.approx(expected, rel=1e-6)


def test_the_measure_sees_the_smallest_feature_and_survives_zeros():
    a = torch.tensor([10.0, 1e-6, 1e6, 0.0, 1e-10, 1e12, 0.0], dtype=torch.float64)
    b = a.clone()
    assert relative_sums(a, b) == 0
    b[4] *= 1.5
    assert relative_sums(a, b) == pytest.approx(0.5)


def false(row: np.ndarray) -> str:
    """A count below 0, or a sum of squares that is too small for its sum."""
    half = len(row) // 2
    return "false" if row[0] < 0 or (row[1 : half + 1] ** 2 > row[0] * row[half + 1 :] * (1 + 1e-6)).any() else ""


def lied(lying, lie, since: int) -> tuple[torch.Tensor, list[str], set[int]]:
    """Gossip the statistics while peer 4 changes its rows from an exchange on; return the rows and the warnings."""
    told: list[str] = []
    mixer = lying(TOPOLOGY, 4, None, None)
    mixer.lie = lambda at, dst, src, message: message if src != 4 or at.slot < since else Received(
        src, lie.astype("<f8").tobytes() + bytes(message.body)[8 * len(lie):])
    rows = torch.from_numpy(np.stack([sums(x) for x in clips()]))
    found = statistics(mixer, rows, -1, TOPOLOGY, slem=living_slem(TOPOLOGY, None, (), 0), flaw=false, warn=told.append)
    return found.rows, told, {edge[1] for edge, _, _ in mixer.strikes}


@pytest.mark.parametrize("first", [-1e9, -1.0])
def test_a_false_row_of_ones_own_is_refused_for_good_and_the_others_find_their_mean(lying, first):
    rows, told, struck = lied(lying, np.array([first]), 0)
    assert struck == {4}
    assert not told
    assert not any(false(row) for row in rows.numpy()[[i for i in range(9) if i != 4]])


def test_where_the_result_is_false_a_peer_takes_its_own_and_its_neighbours_rows(lying):
    rows, told, struck = lied(lying, np.array([-1e9]), 1)
    own = torch.from_numpy(np.stack([sums(x) for x in clips()]))
    assert torch.equal(rows[0], own[[0, 1, 8]].mean(0)) or torch.equal(rows[0], own[[0, 8, 1]].mean(0))
    assert not struck
    assert len(told) == 9
    assert "peer 0 goes on with those of its own and 2 neighbours' clips" in told[0].lower()


def test_rows_of_zeros_do_not_take_the_clips_of_the_others_away(lying):
    rows, told, _ = lied(lying, np.zeros(41), 0)
    assert (rows[:, 0] > 0).all()
    assert not told or all("fewer than its own" in sentence for sentence in told)
