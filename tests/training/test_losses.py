"""Losses of classes and of dimensions: against torch's, by hand, and where targets are unknown."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from p2pser.config import TrainingSettings
from p2pser.evaluation.concordance import ccc
from p2pser.training.losses import (
    Moments,
    Objective,
    Targets,
    as_shares,
    concordance_loss,
    cross_entropy,
    squared_hinge,
)

NAN = float("nan")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


LABELS = torch.tensor([0, 2, 1, 2, 3])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_shares_is_torchs(smoothing: float) -> None:
    logits, shares = drawn(5, 4), drawn(5, 4, seed=1).softmax(1)
    expected = functional.cross_entropy(logits, shares, label_smoothing=smoothing)
    torch.testing.assert_close(cross_entropy(logits, shares, smoothing), expected)
    of_labels = cross_entropy(logits, LABELS, smoothing)
    torch.testing.assert_close(cross_entropy(logits, as_shares(LABELS, 4), smoothing), of_labels)


def test_weights_multiply_and_are_not_divided_out() -> None:
    logits, weights = drawn(5, 4), torch.tensor([1.0, 2.0, 0.5, 3.0])
    each = functional.cross_entropy(logits, LABELS, reduction="none")
    torch.testing.assert_close(cross_entropy(logits, LABELS, weights=weights), (each * weights[LABELS]).mean())
    # So halves of a batch mean what the batch means.
    halves = [cross_entropy(logits[part], LABELS[part], weights=weights) for part in (slice(2), slice(2, 4))]
    torch.testing.assert_close(torch.stack(halves).mean(), cross_entropy(logits[:4], LABELS[:4], weights=weights))


def test_squared_hinge_is_one_against_the_rest() -> None:
    scores = drawn(5, 4)
    signs = 2.0 * functional.one_hot(LABELS, 4) - 1.0
    expected = ((1 - signs * scores).clamp(min=0) ** 2).sum(1)
    torch.testing.assert_close(squared_hinge(scores, LABELS), expected.mean())
    half = squared_hinge(torch.zeros(1, 2), torch.tensor([[0.5, 0.5]]))
    assert half.item() == pytest.approx(2.0)


@pytest.mark.parametrize("loss", [cross_entropy, squared_hinge])
def test_unknown_classes_count_nothing(loss: object) -> None:
    assert callable(loss)
    logits = drawn(5, 4).requires_grad_()
    some = torch.tensor([0, -1, 1, -1, 3])
    known = some >= 0
    torch.testing.assert_close(loss(logits, some), loss(logits[known], some[known]))
    nothing = loss(logits, torch.full((5,), -1))
    nothing.backward()
    assert nothing.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_concordance_loss_is_one_minus_ccc() -> None:
    targets, predicted = drawn(60, 3) * 0.3, drawn(60, 3, seed=1) * 0.5 + 0.1
    predicted = 0.7 * targets + 0.3 * predicted
    each = [1 - ccc(targets[:, k], predicted[:, k]) for k in range(3)]
    assert concordance_loss(predicted, targets).item() == pytest.approx(np.mean(each), abs=1e-6)
    assert concordance_loss(predicted, targets, Moments.of(targets)).item() == pytest.approx(np.mean(each), abs=1e-6)
    assert concordance_loss(targets, targets).item() == 0


def test_moments_of_all_make_small_batches_mean_the_same() -> None:
    """Batch by batch, own moments are far from the whole; those of all are near, and one clip alone still teaches."""
    targets = drawn(400, 3) * 0.3
    predicted = 0.6 * targets + 0.1 * drawn(400, 3, seed=1)
    whole, moments = concordance_loss(predicted, targets).item(), Moments.of(targets)
    parts = [slice(k, k + 4) for k in range(0, 400, 4)]
    with_all = np.mean([concordance_loss(predicted[p], targets[p], moments).item() for p in parts])
    alone = np.mean([concordance_loss(predicted[p], targets[p]).item() for p in parts])
    assert abs(with_all - whole) < 0.03
    assert abs(alone - whole) > 3 * abs(with_all - whole)
    one = predicted[:1].clone().requires_grad_()
    concordance_loss(one, targets[:1], moments).backward()
    assert one.grad is not None
    assert (one.grad * (predicted[:1] - targets[:1]) > 0).all()


def test_moments_are_of_the_population() -> None:
    moments = Moments.of(torch.tensor([[0.0, -1.0, NAN], [1.0, 3.0, NAN], [NAN, 1.0, 0.5]]))
    torch.testing.assert_close(moments.mean, torch.tensor([0.5, 1.0, 0.5]))
    torch.testing.assert_close(moments.variance, torch.tensor([0.25, 8 / 3, 0.0]))


def test_label_smoothing_by_hand() -> None:
    """Logits log 3 and 0: probabilities 3/4 and 1/4; smoothing 0.2 aims at 0.9 and 0.1."""
    logits = torch.tensor([[np.log(3.0), 0.0]], dtype=torch.float32)
    expected = -0.9 * np.log(0.75) - 0.1 * np.log(0.25)
    assert cross_entropy(logits, torch.tensor([0]), 0.2).item() == pytest.approx(expected)
    assert cross_entropy(logits, torch.tensor([[1.0, 0.0]]), 0.2).item() == pytest.approx(expected)
    settings = TrainingSettings(label_smoothing=0.2)
    assert Objective(settings)(logits, Targets(torch.tensor([0]))).item() == pytest.approx(expected)


def test_unknown_dimensions_count_nothing() -> None:
    targets, predicted = drawn(20, 3), drawn(20, 3, seed=1).requires_grad_()
    moments = Moments.of(targets)
    partly = targets.clone()
    partly[5:, 1] = NAN
    partly[:, 2] = NAN
    expected = []
    for k, known in ((0, 20), (1, 5)):
        thrice = [k] * 3  # the mean of three equal dimensions is that of one
        expected.append(concordance_loss(predicted[:known, thrice], targets[:known, thrice],
                                         Moments(*(one[thrice] for one in moments))))
    loss = concordance_loss(predicted, partly, moments)
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    loss.backward()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()
    assert not predicted.grad[:, 2].any()
    assert concordance_loss(drawn(4, 3), torch.full((4, 3), NAN), moments).item() == 0


def test_mixed_targets_are_between_both() -> None:
    targets = Targets(LABELS, drawn(5, 3))
    partner = torch.tensor([1, 0, 2, 4, 3])
    mixed = targets.mixed(torch.tensor([0.7, 0.7, 0.5, 1.0, 0.0]), partner, 4)
    assert mixed.classes is not None
    assert mixed.dimensions is not None
    assert targets.dimensions is not None
    torch.testing.assert_close(mixed.classes[0], torch.tensor([0.7, 0.0, 0.3, 0.0]))
    torch.testing.assert_close(mixed.classes.sum(1), torch.ones(5))
    torch.testing.assert_close(mixed.dimensions[4], targets.dimensions[3])
    unknown = Targets(torch.tensor([0, -1]), None).mixed(0.5, torch.tensor([1, 0]), 2)
    assert unknown.classes is not None
    assert unknown.classes.isnan().all()


def test_the_objective_follows_the_task() -> None:
    targets, outputs = Targets(LABELS, drawn(5, 3) * 0.5), drawn(5, 7, seed=2)
    assert targets.dimensions is not None
    moments = Moments.of(targets.dimensions)

    def loss(columns: slice, loss: str = "cross-entropy", **training: object) -> float:
        settings = TrainingSettings.model_validate({"label_smoothing": 0.0, **training})
        return Objective(settings, loss, None, moments)(outputs[:, columns], targets).item()

    classes = functional.cross_entropy(outputs[:, :4], LABELS).item()
    dimensions = concordance_loss(outputs[:, 4:], targets.dimensions, moments).item()
    assert loss(slice(4)) == pytest.approx(classes)
    assert loss(slice(4, 7), task="dimensions", dimension_weight=0.5) == pytest.approx(dimensions)
    assert loss(slice(7), task="both", dimension_weight=0.5) == pytest.approx(classes + 0.5 * dimensions)
    assert loss(slice(4), loss="squared-hinge") == pytest.approx(squared_hinge(outputs[:, :4], LABELS).item())
