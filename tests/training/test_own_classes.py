"""A loss that leaves out the classes of which a peer has no clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from p2pser.config import Config, TrainingSettings
from p2pser.features.federation import Examples
from p2pser.models.nested import nest
from p2pser.training.local_work import learner
from p2pser.training.losses import Objective, Targets, classes_of, cross_entropy, squared_hinge


def scores(n: int = 6) -> torch.Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.mark.parametrize("loss", ["cross-entropy", "squared-hinge"])
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 3.0, 0.5])])
def test_the_loss_is_that_of_the_classes_that_are_there(loss, weights):
    labels, raw = torch.tensor([0, 2, 2, 0, -1, 2]), scores()
    present = classes_of(labels)
    assert present.tolist() == [0, 2]
    found = Objective(TrainingSettings(), loss, weights, present=present)(raw, Targets(labels))
    few, kept = raw[:, [0, 2]], None if weights is None else weights[[0, 2]]
    again = torch.tensor([0, 1, 1, 0, -1, 1])
    torch.testing.assert_close(found, squared_hinge(few, again, kept) if loss == "squared-hinge"
                               else cross_entropy(few, again, 0.1, kept))
    found.backward()
    assert not raw.grad[:, [1, 3]].any()
    assert raw.grad[:4].any(1).all()


def test_of_soft_labels_every_class_with_a_share_counts():
    assert classes_of(torch.tensor([[0.0, 0.5, 0.0, 0.5], [0.0, 1.0, 0.0, 0.0], [float("nan")] * 4])).tolist() == [1, 3]


@pytest.mark.parametrize("own", [False, True])
def test_a_peer_without_an_emotion_does_not_unlearn_it_where_asked(own):
    draw = np.random.default_rng(0)
    features, labels = draw.normal(size=(20, 6)).astype(np.float32), np.arange(20) % 2
    config = Config().with_settings(["model.hidden=[4]", "model.dropout=0", f"training.own_classes={own}"])
    network = nest(config.model, (6,), 3, 0, [])[1.0]
    examples = Examples(features, labels, ("s",) * 20, ("p",) * 20)
    local = learner(network.module, network.schema, config, examples, features, ("a", "b", "c"), peer=0)
    gradient = dict(network.schema.views(local.gradient(network.start, 0)[0] - 1e-3 * network.start))
    assert bool(gradient["head.weight"][2].any()) != own
    assert gradient["head.weight"][:2].any()
