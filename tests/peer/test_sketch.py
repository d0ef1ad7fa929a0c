"""Sketches of rows: what a watcher learns from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from p2pser.peer.sketch import BLOCK, BUCKETS, Sketch, consensus_distance


@pytest.mark.parametrize("size", [1, BUCKETS - 1, BLOCK, 2 * BLOCK + 5])
def test_a_sketch_is_the_sum_of_signed_entries(size: int) -> None:
    sketch = Sketch(size, seed=3)
    row = torch.arange(size, dtype=torch.float32) + 1
    signed = np.zeros(-(-size // BUCKETS) * BUCKETS)
    signed[:size] = row.numpy() * sketch._signs.numpy()
    expected = signed.reshape(-1, BUCKETS).sum(axis=0)
    for _ in range(2):  # nothing stays from one row to the next
        np.testing.assert_allclose(np.frombuffer(sketch.of(row)), expected, rtol=1e-12)
    assert np.frombuffer(sketch.of(row)).shape == (BUCKETS,)


def test_the_distance_of_sketches_is_about_that_of_the_rows() -> None:
    rows = torch.from_numpy(np.random.Generator(np.random.Philox(1)).normal(1.0, 0.1, (4, 3000)))
    mean = rows.mean(dim=0)
    exact = float(((rows - mean) ** 2).sum(dim=1).mean().sqrt() / mean.norm())
    sketch = Sketch(3000, seed=0)
    assert consensus_distance([sketch.of(row) for row in rows]) == pytest.approx(exact, rel=0.2)
    assert consensus_distance([sketch.of(mean)] * 4) == pytest.approx(0.0, abs=1e-12)
