"""Statistics by a secure sum: exact, the same bits everywhere, and no message holds a peer's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from p2pser.base.errors import P2PSERError
from p2pser.gossip.agreement.statistics import from_words, secure_statistics, to_words
from p2pser.gossip.mixer import Outbox, Step
from p2pser.graph.spec import load
from p2pser.simulation.mixer import SimulatedMixer
from p2pser.simulation.secrets import SeedSecrets

ROWS = torch.tensor([[12.0, 3e6, -0.25, 9e12, 1e-9], [1.0, -7.5, 1e-7, 4.0, 2e-9], [0.0, 0.0, 0.0, 0.0, 0.0],
                     [30.0, 1e5, 2.5, 1e11, 0.0]], dtype=torch.float64)
TOPOLOGY = load("ring", peers=4)


class Overheard(SimulatedMixer):
    """A mixer that keeps what is posted."""

    def post(self, at: Step, out: Outbox) -> None:
        self.posted = [*getattr(self, "posted", []), *(bytes(value) for value in (out.edges or {}).values()
                                                       if not isinstance(value, torch.Tensor))]
        super().post(at, out)


def test_the_mean_is_exact_and_no_message_holds_a_peers_sums() -> None:
    mixer = Overheard(TOPOLOGY, secrets=SeedSecrets(3))
    found = secure_statistics(mixer, ROWS, -2, TOPOLOGY.graph, least=3).rows
    assert all(torch.equal(row, found[0]) for row in found)
    np.testing.assert_allclose(found[0], ROWS.mean(0), rtol=1e-9, atol=2.0**-64)
    sent = b"".join(mixer.posted)
    total = from_words(sum(to_words(row.numpy()) for row in ROWS))
    assert to_words(total).tobytes()[:4] in sent  # the total is public
    for row in ROWS[[0, 1, 3]]:
        assert to_words(row.numpy()).tobytes() not in sent
        for number in row[row != 0]:
            assert to_words(number[None].numpy()).tobytes() not in sent


@given(st.lists(st.floats(-2.0**61, 2.0**61), min_size=1, max_size=4))
def test_words_sum_like_their_numbers(numbers: list[float]) -> None:
    total = np.zeros(4, np.uint64)
    for number in numbers:
        total += to_words(np.array([number]))
    exact = sum(int(number * 2.0**64) for number in numbers) / 2.0**64
    assert len(numbers) > 1 or from_words(total)[0] == pytest.approx(numbers[0], rel=1e-15, abs=2.0**-64)
    assert abs(exact) >= 2.0**62 or from_words(total)[0] == pytest.approx(exact, rel=1e-12, abs=2.0**-62)


@pytest.mark.parametrize("number", [2.0**62, -(2.0**62), float("nan"), float("inf")])
def test_a_sum_of_extreme_size_is_refused(number: float) -> None:
    with pytest.raises(P2PSERError, match="too large for a secure sum"):
        to_words(np.array([number]))


def test_without_a_total_there_are_no_statistics() -> None:
    with pytest.raises(P2PSERError, match="no total"):
        secure_statistics(SimulatedMixer(TOPOLOGY, secrets=SeedSecrets(3)), ROWS, -2, TOPOLOGY.graph, least=5)


def test_a_total_that_no_clips_can_have_is_no_total() -> None:
    def flaw(row: np.ndarray) -> str:
        return "fewer clips than none" if row[0] < 0 else ""

    def found(first: float) -> torch.Tensor:
        rows = torch.cat([torch.tensor([[first, 0, 0, 0, 0]], dtype=torch.float64), ROWS[1:]])
        return secure_statistics(SimulatedMixer(TOPOLOGY, secrets=SeedSecrets(3)), rows, -2, TOPOLOGY.graph, least=3,
                                 flaw=flaw).rows

    assert float(found(12.0)[0, 0]) == 43 / 4
    with pytest.raises(P2PSERError, match="or one sent false numbers"):
        found(-1e9)
