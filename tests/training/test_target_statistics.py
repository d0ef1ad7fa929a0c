"""What all peers' targets are together comes out of sums, like the features' statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from p2pser.config import TrainingSettings
from p2pser.features.federation import Examples
from p2pser.features.normalisation import sums
from p2pser.training.learner import batches
from p2pser.training.local_work import targets
from p2pser.training.losses import Moments
from p2pser.training.target_statistics import Asked, TargetStatistics

CLASSES = 3


def examples(n: int, seed: int, *shape: int) -> Examples:
    draw = np.random.default_rng(seed)
    rated = draw.uniform(-1, 1, (n, 3)).astype(np.float32)
    rated[draw.random((n, 3)) < 0.2] = np.nan
    labels = draw.integers(-1, 2, n)  # class 2 is nobody's
    return Examples(draw.normal(size=(n, *(shape or (5,)))).astype(np.float32), labels, ("s",) * n, ("p",) * n,
                    dimensions=rated)


@pytest.mark.parametrize("shape", [(5,), (5, 7)])
@pytest.mark.parametrize(("task", "balance"), [("classes", "weights"), ("dimensions", "none"), ("both", "sampling"),
                                               ("dimensions", "weights")])
def test_the_sum_over_peers_is_what_pooled_clips_give(task: str, balance: str, shape: tuple[int, ...]) -> None:
    training = TrainingSettings.model_validate({"task": task, "balance": balance})
    parts = [examples(n, seed, *shape) for seed, n in enumerate((12, 1, 30))]
    asked = Asked.of(training, CLASSES, features=(5, *shape[1:]), clips=True)
    total = np.sum([asked.sums(part) for part in parts], axis=0)
    plain, found = asked.read(total)
    features = np.concatenate([part.features for part in parts])
    assert plain is not None
    np.testing.assert_allclose(plain, sums(features), rtol=1e-12)
    assert found.clips == 43
    without = Asked.of(training, CLASSES)
    none, alike = without.read(np.sum([without.sums(part) for part in parts], axis=0) / 3)
    assert (none, alike.clips) == (None, 0)
    assert alike.counts is None or alike.counts * 3 == pytest.approx(found.counts)
    assert alike.moments is None or all(map(torch.equal, alike.moments, found.moments or ()))
    labels = np.concatenate([part.labels for part in parts])
    if task == "dimensions":
        assert found.counts is None
    else:
        assert found.counts is not None
        np.testing.assert_allclose(found.counts, [(labels == k).sum() for k in range(CLASSES)], rtol=1e-12)
    if task == "classes":
        assert found.moments is None
    else:
        rated = torch.from_numpy(np.concatenate([part.dimensions for part in parts if part.dimensions is not None]))
        assert found.moments is not None
        for ours, pooled in zip(found.moments, Moments.of(rated)):
            torch.testing.assert_close(ours, pooled, atol=2e-6, rtol=0)


def test_nothing_is_added_where_nothing_is_needed() -> None:
    part = examples(9, 0)
    scaled = Asked.of(TrainingSettings(), CLASSES, features=(5,))
    np.testing.assert_array_equal(scaled.sums(part), sums(part.features))
    plain, found = scaled.read(sums(part.features))
    np.testing.assert_array_equal(plain, sums(part.features))
    assert (found.counts, found.moments, found.weights, found.clips) == (None, None, None, 0)
    nothing = Asked.of(TrainingSettings(), CLASSES)
    assert not nothing
    assert nothing.sums(part).shape == (0,)
    assert nothing.read(nothing.sums(part)) == (None, TargetStatistics())


def test_the_number_of_clips_is_sent_alone() -> None:
    asked = Asked.of(TrainingSettings(), CLASSES, clips=True)
    assert asked.sums(examples(9, 0)).tolist() == [9.0]
    assert asked.read(np.array([43.0000001]))[1].clips == 43


def test_classes_weigh_the_same_together() -> None:
    counts = np.array([60.0, 30.0, 10.0, 0.0])
    weights = TargetStatistics(counts).weights
    assert weights is not None
    np.testing.assert_allclose(weights[:3].numpy() * counts[:3], 100 / 3, rtol=1e-6)
    assert weights[3] == 1
    assert float(weights @ torch.from_numpy(counts).float()) == pytest.approx(100.0)


def test_rare_clips_are_drawn_more_often_and_keyed() -> None:
    often = np.array([1.0] * 30 + [5.0] * 10)
    drawn = np.concatenate([batches(40, 8, 5, seed=0, peer=1, round=r, often=often) for r in range(50)], axis=None)
    counts = np.bincount(drawn, minlength=40)
    share = often / often.sum() * len(drawn)
    assert np.abs(counts - share).max() < 0.3 * share.max()
    # In each epoch of 40 draws a clip comes its share of times, rounded up or down.
    for epoch in drawn.reshape(-1, 40):
        there = np.bincount(epoch, minlength=40)
        assert (np.abs(there - often / often.sum() * 40) < 1).all()
    again = batches(40, 8, 5, seed=0, peer=1, round=7, often=often)
    np.testing.assert_array_equal(again.ravel(), drawn[7 * 40 : 8 * 40])


def test_targets_are_what_the_task_asks_for() -> None:
    part = examples(6, 0)
    both = targets(part, TrainingSettings(task="both"))
    assert both.classes is not None
    assert both.dimensions is not None
    assert both.classes.tolist() == part.labels.tolist()
    assert both.dimensions.shape == (6, 3)
    assert targets(part, TrainingSettings(task="classes")).dimensions is None
    assert targets(part, TrainingSettings(task="dimensions")).classes is None
    soft = Examples(part.features, part.labels, part.speakers, part.paths, soft=np.full((6, 3), 1 / 3, np.float32))
    shares = targets(soft, TrainingSettings()).classes
    assert shares is not None
    assert shares.shape == (6, 3)


@pytest.mark.parametrize("shape", [(5,), (5, 7), (5, 1, 4)])
@pytest.mark.parametrize("task", ["classes", "dimensions", "both"])
def test_sums_of_clips_and_their_means_have_no_flaw_and_others_have(task: str, shape: tuple[int, ...]) -> None:
    asked = Asked.of(TrainingSettings.model_validate({"task": task, "balance": "weights"}), CLASSES,
                     features=(5, *shape[1:]))
    rows = [asked.sums(examples(n, n, *shape)) for n in (12, 1, 30, 0)]
    half = len(rows[0]) // 2
    assert not any(map(asked.flaw, [*rows, np.sum(rows, axis=0), np.mean(rows, axis=0)]))
    counted = half - asked.targets + 1
    for place, value in [(0, -1.0), (0, 1e14), (0, 0.0), (1, 1e9), (half + 1, -1e-3), (half + 1, 0.0),
                         (counted, -1.0), (counted, 13.0)]:
        false = rows[0].copy()
        false[place] = value
        assert asked.flaw(false), (place, value)
    assert not Asked().flaw(np.zeros(0))
