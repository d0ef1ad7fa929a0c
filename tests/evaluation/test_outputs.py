"""The concordance coefficient, and what a model's outputs say of clips whose targets are known in part."""

from __future__ import annotations

import numpy as np
import pytest

from p2pser.evaluation.concordance import Ratings, ccc
from p2pser.evaluation.outputs import Outputs, ccc_of_several, in_short
from p2pser.features.federation import Examples


def test_ccc_by_hand() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert ccc(x, x) == pytest.approx(1.0)
    assert ccc(x, -x + 5) == pytest.approx(-1.0)
    assert ccc(x, np.full(4, 2.5)) == pytest.approx(0.0)
    y = 2 * x + 1
    assert ccc(x, y) == pytest.approx(2 * 2.5 / (1.25 + 5.0 + 3.5**2))  # perfectly correlated, yet off
    assert ccc([1.0, np.nan, 3.0], [1.0, 9.0, 3.0]) == pytest.approx(1.0)
    assert np.isnan(ccc([1.0], [1.0]))
    assert np.isnan(ccc([2.0, 2.0], [2.0, 2.0]))


def test_ratings_over_folds() -> None:
    draw = np.random.default_rng(0)
    parts = []
    for _ in range(2):
        targets = draw.normal(size=(10, 3))
        parts.append(Ratings.of(targets, targets + draw.normal(size=(10, 3)), ["s"] * 10))
    pooled = Ratings.concatenate(parts)
    expected = [np.mean([part.ccc()[name] for part in parts]) for name in ("arousal", "valence", "dominance")]
    np.testing.assert_allclose(list(pooled.ccc_folds().values()), expected)
    rated, unknown = Ratings.of([[0, 0, 0], [1, 1, 1]], [[0, 0, 0], [1, 1, 1]], "ab"), \
        Ratings.of([[np.nan, 0, 0], [np.nan, 1, 1]], [[0, 0, 0], [1, 0, 1]], "ab")
    assert Ratings.concatenate([rated, unknown]).ccc_folds() == {"arousal": 1.0, "valence": 0.5, "dominance": 1.0}
    with pytest.raises(ValueError, match="do not fit"):
        Ratings.of(np.zeros((2, 3)), np.zeros((2, 2)), ["s", "s"])
    with pytest.raises(ValueError, match="no predictions"):
        Ratings.of(np.zeros((0, 3)), np.zeros((0, 3)), [])


def test_outputs_are_split_by_task_and_unknown_labels_left_out() -> None:
    draw = np.random.default_rng(0)
    rated = draw.uniform(-1, 1, (8, 3)).astype(np.float32)
    rated[:, 2] = np.nan
    labels = np.array([0, 1, -1, 0, 1, -1, 0, 1])
    held = Examples(np.zeros((8, 2), np.float32), labels, tuple("abcdefgh"), tuple("abcdefgh"), dimensions=rated)
    outputs = np.concatenate([np.eye(2)[np.maximum(labels, 0)], np.nan_to_num(rated)], axis=1).astype(np.float32)
    found = Outputs.of(outputs, held, "both", 2)
    assert found.predictions is not None
    assert found.predictions.speakers == tuple("abdegh")
    assert found.uar == 1.0
    assert found.ccc == {"arousal": pytest.approx(1.0), "valence": pytest.approx(1.0), "dominance": None}
    alone = Outputs.of(outputs[:, 2:], held, "dimensions", 0)
    assert alone.predictions is None
    assert (alone.uar, in_short(alone.ccc)) == (None, pytest.approx(1.0))
    assert Outputs.of(outputs[:, :2], held, "classes", 2).ccc is None


def test_several_models() -> None:
    one = {"arousal": 0.8, "valence": 0.2, "dominance": None}
    two = {"arousal": 0.4, "valence": 0.4, "dominance": None}
    mean, worst = ccc_of_several([one, None, two])
    assert mean == {"arousal": pytest.approx(0.6), "valence": pytest.approx(0.3), "dominance": None}
    assert worst is two
    assert ccc_of_several([None]) == (None, None)
