"""UAR both ways against scikit-learn, and intervals that cover."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score

from p2pser.evaluation import metrics
from p2pser.evaluation.metrics import Predictions


def made(n: int = 200, speakers: int = 10, classes: int = 4, skill: float = 0.6, seed: int = 0) -> Predictions:
    """Predictions right with probability ``skill``; speaker k is fold k % 5."""
    draws = np.random.default_rng(seed)
    targets = draws.integers(0, classes, n)
    who = draws.integers(0, speakers, n)
    guesses = draws.integers(0, classes, n)
    predicted = np.where(draws.random(n) < skill, targets, guesses)
    return Predictions.of(targets, predicted, [f"s{k}" for k in who], classes, who % 5)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_against_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    targets, predicted = map(list, zip(*pairs))
    said = Predictions.of(targets, predicted, ["a"] * len(pairs), 5)
    table = metrics.confusion(targets, predicted, 5)
    assert (table == confusion_matrix(targets, predicted, labels=range(5))).all()
    present = [k for k in range(5) if k in targets]
    by_hand = np.mean([np.mean([p == k for t, p in pairs if t == k]) for k in present])
    assert metrics.uar_pooled(said) == metrics.uar_folds(said) == pytest.approx(by_hand)
    if set(predicted) <= set(targets) and len(set(targets)) > 1:  # scikit-learn warns otherwise
        assert metrics.uar_pooled(said) == pytest.approx(balanced_accuracy_score(targets, predicted))
    assert metrics.macro_f1(table) == pytest.approx(
        f1_score(targets, predicted, average="macro", zero_division=0.0))
    assert metrics.accuracy(said) == pytest.approx(np.mean(np.array(targets) == predicted))


def test_folds_average_over_the_classes_present() -> None:
    """Fold 1 has no clip of class 2: its UAR is over two classes (as EMO-DB's speaker without disgust)."""
    said = Predictions.of([0, 1, 2, 0, 1], [0, 1, 0, 0, 0], list("aaabb"), 3, [0, 0, 0, 1, 1])
    assert metrics.uar_by_fold(said) == {0: pytest.approx(2 / 3), 1: pytest.approx(1 / 2)}
    assert metrics.uar_folds(said) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert metrics.uar_pooled(said) == pytest.approx((1 + 1 / 2 + 0) / 3)


def test_recall_of_an_absent_class_is_no_number() -> None:
    each = metrics.recalls([[2, 1], [0, 0]])
    assert each[0] == pytest.approx(2 / 3)
    assert math.isnan(each[1])
    assert math.isnan(float(metrics.uar([[0, 0], [0, 0]])))


def test_concatenate_makes_folds() -> None:
    part = made(20)
    both = Predictions.concatenate([part, part])
    assert set(both.folds.tolist()) == {0, 1}
    assert metrics.uar_folds(both) == pytest.approx(metrics.uar_pooled(part))


@pytest.mark.parametrize("statistic", ["folds", "pooled"])
def test_resampling_each_speaker_once_is_the_plain_figure(statistic: metrics.Statistic) -> None:
    said = made()
    tables, speakers = metrics._tables(said, statistic)
    once = metrics._statistic(tables, np.ones((1, speakers)))[0]
    assert once == pytest.approx(metrics.uar_folds(said) if statistic == "folds" else metrics.uar_pooled(said))


def test_bootstrap_is_by_speaker() -> None:
    """One good and one bad half of the speakers: the spread is that of speakers, far wider than that of clips."""
    targets = np.tile([0, 1], 500)
    speakers = np.repeat([f"s{k}" for k in range(10)], 100)
    good = np.repeat(np.arange(10) % 2 == 0, 100)
    said = Predictions.of(targets, np.where(good, targets, 1 - targets), speakers.tolist(), 2)
    low, high = metrics.bootstrap(said, "pooled")
    assert low == pytest.approx(0.2, abs=0.1)
    assert high == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize("statistic", ["folds", "pooled"])
def test_bootstrap_covers(statistic: metrics.Statistic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 intervals from 20 independent speakers about 95 hold the truth (percentile intervals: a bit fewer)."""
    monkeypatch.setattr(metrics, "RESAMPLES", 300)
    truth = 0.6 + 0.4 / 4
    inside = 0
    for seed in range(100):
        low, high = metrics.bootstrap(made(400, 20, seed=seed), statistic, seed=seed)
        inside += low <= truth <= high
    assert 86 <= inside <= 100


def graded(speakers: int, seed: int, purpose: str = "bootstrap") -> np.ndarray:
    """Instead of draws: resample k counts the first of two speakers k / 1000 times, and the second the rest."""
    share = np.arange(1001) / 1000
    return np.stack([share, 1 - share], axis=1)


FIRST_RIGHT = Predictions.of([0, 0], [0, 1], ["a", "b"], 2)
"""Two speakers of one clip each: the first is predicted rightly, the second wrongly."""


def test_intervals_are_of_95_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert metrics.interval(np.arange(1001) / 1000) == (pytest.approx(0.025), pytest.approx(0.975))
    monkeypatch.setattr(metrics, "speaker_counts", graded)
    for statistic in ("folds", "pooled"):
        assert metrics.bootstrap(FIRST_RIGHT, statistic) == (pytest.approx(0.025), pytest.approx(0.975))


def test_paired_intervals_are_of_95_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "speaker_counts", graded)
    wrong = Predictions.of([0, 0], [1, 1], ["a", "b"], 2)
    difference = metrics.paired([FIRST_RIGHT], [wrong])
    assert difference == (pytest.approx(0.5), pytest.approx(0.025), pytest.approx(0.975))
    assert metrics.paired([wrong], [FIRST_RIGHT]) == (
        pytest.approx(-0.5), pytest.approx(-0.975), pytest.approx(-0.025))


def test_speakers_are_drawn_2000_times_with_replacement() -> None:
    counts = metrics.speaker_counts(5, 0)
    assert counts.shape == (2000, 5)
    assert (counts.sum(1) == 5).all()
    np.testing.assert_allclose(counts.mean(0), 1.0, atol=0.08)
    np.testing.assert_allclose(counts.var(0), 4 / 5, atol=0.08)  # multinomial: n p (1 - p)


def test_bootstrap_is_keyed() -> None:
    said = made()
    assert metrics.bootstrap(said) == metrics.bootstrap(said)
    assert metrics.bootstrap(said) != metrics.bootstrap(said, seed=1)
    low, high = metrics.bootstrap(said)
    assert low < metrics.uar_folds(said) < high


def test_one_speaker_has_no_interval() -> None:
    assert all(math.isnan(end) for end in metrics.bootstrap(made(speakers=1)))
    assert math.isnan(metrics.paired([made(speakers=1)], [made(speakers=1)]).low)


def test_paired_is_narrower_than_each_alone() -> None:
    """Speakers differ far more than two models do on the same speaker."""
    draws = np.random.default_rng(0)
    targets = draws.integers(0, 4, 2000)
    who = np.repeat(np.arange(10), 200)
    skill = np.linspace(0.2, 0.9, 10)[who]
    luck = draws.random(2000)
    speakers = [f"s{k}" for k in who]
    a = Predictions.of(targets, np.where(luck < skill + 0.05, targets, 0), speakers, 4)
    b = Predictions.of(targets, np.where(luck < skill, targets, 0), speakers, 4)
    difference = metrics.paired([a], [b])
    low, high = metrics.bootstrap(a)
    assert 0.02 < difference.low < difference.mean < difference.high < 0.06
    assert difference.high - difference.low < 0.25 * (high - low)
    assert difference.mean == pytest.approx(metrics.uar_folds(a) - metrics.uar_folds(b))


def test_paired_over_seeds() -> None:
    a = [made(seed=0), made(seed=0)]
    b = [Predictions(p.targets, np.random.default_rng(k).permutation(p.predicted), p.speakers, 4, p.folds)
         for k, p in enumerate(a)]
    difference = metrics.paired(a, b)
    expected = np.mean([metrics.uar_folds(x) - metrics.uar_folds(y) for x, y in zip(a, b)])
    assert difference.mean == pytest.approx(expected)
    same = metrics.paired(a, a)
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)
    swapped = metrics.paired(b, a)
    assert swapped.mean == pytest.approx(-difference.mean)
    assert swapped.low == pytest.approx(-difference.high)


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(ValueError, match="same clips"):
        metrics.paired([made(seed=0)], [made(seed=1)])
    with pytest.raises(ValueError, match="cannot be paired"):
        metrics.paired([made()], [])


@pytest.mark.parametrize(("targets", "predicted", "speakers", "says"), [
    ([0, 1], [0], ["a", "b"], "one length"), ([0, 5], [0, 0], ["a", "b"], "0 .. 1"),
    ([0, 1], [-1, 0], ["a", "b"], "0 .. 1"), ([], [], [], "no predictions")])
def test_wrong_predictions_are_refused(targets: list[int], predicted: list[int], speakers: list[str],
                                       says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Predictions.of(targets, predicted, speakers, 2)


def test_the_interval_of_several_is_of_their_mean() -> None:
    one, other = made(seed=0), made(seed=0, skill=0.3)
    mean = (metrics.resampled(one) + metrics.resampled(other)) / 2
    assert metrics.bootstrap([one, other]) == metrics.interval(mean)
    assert len(metrics.resampled(made(speakers=1))) == 0


def test_logits_genders_and_paths_follow_their_clips() -> None:
    logits = np.arange(6.0).reshape(3, 2)
    said = Predictions.of([0, 1, 1], [1, 1, 1], ["a", "b", "c"], 2, logits=logits, genders="fmf", paths=["x", "y", "z"])
    part = said.take(np.array([2, 0]))
    assert part.genders == ("f", "f")
    assert part.paths == ("z", "x")
    assert part.logits is not None
    assert part.logits.tolist() == [[4.0, 5.0], [0.0, 1.0]]
    both = Predictions.concatenate([said, part])
    assert both.paths == ("x", "y", "z", "z", "x")
    assert both.logits is not None
    assert both.logits.shape == (5, 2)
    bare = Predictions.of([0], [0], ["d"], 2)
    mixed = Predictions.concatenate([said, bare])
    assert (mixed.logits, mixed.genders, mixed.paths) == (None, (), ())
    with pytest.raises(ValueError, match="a column a class"):
        Predictions.of([0], [0], ["d"], 2, logits=[[0.0]])
    with pytest.raises(ValueError, match="2 genders"):
        Predictions.of([0], [0], ["d"], 2, genders="fm")
