"""UAR by gender and by speaker: figures by hand, and intervals that hold what they should."""

from __future__ import annotations

import math

import numpy as np
import pytest

from p2pser.evaluation import fairness, metrics
from p2pser.evaluation.metrics import Predictions


def made(skill_f: float, skill_m: float, *, speakers: int = 10, clips: int = 40, seed: int = 0) -> Predictions:
    """Speakers in turn f and m, each a fold of its own, right with a probability that depends on the gender."""
    draws = np.random.default_rng(seed)
    names = [f"s{k}" for k in range(speakers) for _ in range(clips)]
    genders = ["fm"[k % 2] for k in range(speakers) for _ in range(clips)]
    targets = draws.integers(0, 3, speakers * clips)
    skill = np.where(np.array(genders) == "f", skill_f, skill_m)
    wrong = (targets + draws.integers(1, 3, len(targets))) % 3
    predicted = np.where(draws.random(len(targets)) < skill, targets, wrong)
    folds = np.repeat(np.arange(speakers), clips)
    return Predictions.of(targets, predicted, names, 3, folds, genders=genders)


def test_by_gender_is_the_uar_of_each_part() -> None:
    said = made(0.9, 0.6)
    found = fairness.by_gender([said])
    assert found is not None
    for gender in "fm":
        part = said.take(np.flatnonzero(np.array(said.genders) == gender))
        group = found.groups[gender]
        assert group.uar == metrics.uar_folds(part)
        assert (group.speakers, group.clips) == (5, 200)
        assert group.interval.low < group.uar < group.interval.high
    assert found.gap == found.groups["f"].uar - found.groups["m"].uar
    assert 0.2 < found.gap_interval.low < found.gap < found.gap_interval.high < 0.4


def test_the_gaps_interval_resamples_both_genders_apart() -> None:
    """In step with each other, men who are served exactly as the women would leave an interval of nothing."""
    women = made(0.7, 0.7).take(np.arange(400)[np.array(made(0.7, 0.7).genders) == "f"])
    twins = Predictions.of(np.tile(women.targets, 2), np.tile(women.predicted, 2),
                           [*women.speakers, *(f"x{name}" for name in women.speakers)], 3,
                           np.concatenate([women.folds, women.folds + 100]), genders=["f"] * 200 + ["m"] * 200)
    found = fairness.by_gender([twins])
    assert found is not None
    assert found.gap == pytest.approx(0.0)
    assert found.gap_interval.low < -0.005
    assert found.gap_interval.high > 0.005


def test_one_gender_or_none_has_no_gap() -> None:
    said = made(0.9, 0.6)
    women = said.take(np.flatnonzero(np.array(said.genders) == "f"))
    assert fairness.by_gender([women]) is None
    bare = Predictions.of(said.targets, said.predicted, said.speakers, 3, said.folds)
    assert fairness.by_gender([bare]) is None
    pair = fairness.by_gender([made(0.9, 0.6, speakers=2)])
    assert pair is not None
    assert math.isnan(pair.gap_interval.low)


def test_several_seeds_are_averaged() -> None:
    several = [made(0.9, 0.6), made(0.9, 0.6)]
    other = several[1]
    several[1] = Predictions.of(several[0].targets, other.predicted, other.speakers, 3, other.folds,
                                genders=other.genders)
    found = fairness.by_gender(several)
    alone = [fairness.by_gender([one]) for one in several]
    assert found is not None
    assert found.gap == pytest.approx(np.mean([one.gap for one in alone if one is not None]))
    assert fairness.by_speaker(several)["s3"] == pytest.approx(
        (fairness.by_speaker(several[:1])["s3"] + fairness.by_speaker(several[1:])["s3"]) / 2)


def test_the_worst_speaker_over_the_emotions_that_they_have() -> None:
    said = Predictions.of([0, 0, 1, 0, 1, 2, 2], [0, 0, 1, 0, 0, 2, 1], list("aaabbbb"), 3)
    assert fairness.by_speaker([said]) == {"a": 1.0, "b": pytest.approx(0.5)}
    found = fairness.worst([said])
    assert (found.speaker, found.uar, found.clips) == ("b", pytest.approx(0.5), 4)
    # Class 2 has a clip right and one wrong; the others have one each, which always comes back.
    assert found.interval == (pytest.approx(1 / 3), pytest.approx(2 / 3))


def test_intervals_are_of_95_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Predictions.of([0, 0, 0], [0, 1, 1], list("abc"), 2, genders="fmm")
    sizes = {"bootstrap f": 1000, "bootstrap m": 2000}
    monkeypatch.setattr(metrics, "resampled", lambda *_, purpose, **__: np.arange(1001) / sizes[purpose])
    found = fairness.by_gender([said])
    assert found is not None
    assert found.groups["f"].interval == (pytest.approx(0.025), pytest.approx(0.975))
    assert found.groups["m"].interval == (pytest.approx(0.0125), pytest.approx(0.4875))
    assert found.gap_interval == (pytest.approx(0.0125), pytest.approx(0.4875))
    assert found.gap == 1.0


def test_the_worst_speakers_interval_is_over_their_clips() -> None:
    """Four clips of one emotion, two right: the mean of four draws has five values, binomially distributed."""
    said = Predictions.of([0, 0, 0, 0, 0], [1, 0, 1, 0, 0], list("bbbba"), 2)
    found = fairness.worst([said])
    assert (found.speaker, found.uar, found.clips) == ("b", 0.5, 4)
    assert found.interval == (0.0, 1.0)  # each of the ends has probability 1 / 16, more than 1 / 40
    eight = Predictions.of([0] * 9, [1, 0] * 4 + [0], list("bbbbbbbba"), 2)
    assert fairness.worst([eight]).interval == (pytest.approx(1 / 8), pytest.approx(7 / 8))  # 0: 1 / 256
