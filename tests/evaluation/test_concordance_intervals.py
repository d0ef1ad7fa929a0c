"""Intervals of the concordance: every speaker once is the plain figure, several ratings are their mean."""

from __future__ import annotations

import numpy as np
import pytest

from p2pser.evaluation import concordance
from p2pser.evaluation.concordance import Ratings, ccc, ccc_bootstrap


def made(noise: float, seed: int = 0) -> Ratings:
    """Twelve speakers of ten clips; valence is known of half of the clips, dominance of none."""
    data, draws = np.random.default_rng(9), np.random.default_rng(seed)
    targets = data.uniform(-1, 1, (120, 3))
    targets[::2, 1] = np.nan
    targets[:, 2] = np.nan
    predicted = np.nan_to_num(targets) + noise * draws.normal(size=(120, 3))
    return Ratings.of(targets, predicted, [f"s{k // 10}" for k in range(120)])


def test_counts_weigh_clips_as_repeating_them_does() -> None:
    draws = np.random.default_rng(0)
    x, y = draws.normal(size=20), draws.normal(size=20)
    counts = draws.integers(0, 4, (5, 20))
    found = concordance._ccc(x, y, counts.astype(float))
    assert found == pytest.approx([ccc(np.repeat(x, row), np.repeat(y, row)) for row in counts])
    assert np.isnan(concordance._ccc(x, y, np.eye(20)[:1])).all()  # one clip


def test_the_interval_holds_the_figure_and_narrows_with_skill() -> None:
    sure, unsure = made(0.1), made(0.8)
    for one in (sure, unsure):
        found = ccc_bootstrap(one)
        assert found["arousal"].low < one.ccc()["arousal"] < found["arousal"].high
        assert found["valence"].low < one.ccc()["valence"] < found["valence"].high
        assert np.isnan(found["dominance"].low)
    assert np.ptp(ccc_bootstrap(sure)["arousal"]) < np.ptp(ccc_bootstrap(unsure)["arousal"])


def test_several_ratings_have_the_interval_of_their_mean() -> None:
    one, other = made(0.3), made(0.3, seed=1)
    found, alone = ccc_bootstrap([one, other])["arousal"], [ccc_bootstrap(each)["arousal"] for each in (one, other)]
    assert min(each.low for each in alone) < found.low < found.high < max(each.high for each in alone)
    assert ccc_bootstrap([one, one])["arousal"] == pytest.approx(ccc_bootstrap(one)["arousal"])


def test_intervals_are_of_95_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions are the targets (first speaker) or 0 (second): with share w of the first the covariance is w, the
    variances are 1 and w, the means 0.
    """
    share = np.arange(1001) / 1000
    monkeypatch.setattr(concordance, "speaker_counts",
                        lambda speakers, seed: 2 * np.stack([share, 1 - share], axis=1))
    targets = np.array([[-1.0], [1.0], [-1.0], [1.0]]).repeat(3, axis=1)
    kept = np.array([[1.0], [1.0], [0.0], [0.0]])
    found = ccc_bootstrap(Ratings.of(targets, targets * kept, ["a", "a", "b", "b"]))

    def expected(w: float) -> float:
        return 2 * w / (1 + w)

    for dimension in ("arousal", "valence", "dominance"):
        assert found[dimension] == (pytest.approx(expected(0.025)), pytest.approx(expected(0.975)))
