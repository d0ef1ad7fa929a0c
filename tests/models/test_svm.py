"""Support vector machines: the kernel that the random features stand for, and scikit-learn's answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.svm import SVC, LinearSVC

from p2pser import models
from p2pser.base.errors import ConfigError, ModelError
from p2pser.config import Config, ModelSettings
from p2pser.features.federation import Examples
from p2pser.models.networks.svm import SVM
from p2pser.models.rows import Schema
from p2pser.training.local_work import learner
from p2pser.training.target_statistics import TargetStatistics


def machine(inputs: int = 20, classes: int = 3, seed: int = 0, **settings: object) -> SVM:
    chosen = ModelSettings.model_validate({"name": "svm", "parameters": settings})
    module = models.build(chosen, (inputs,), classes, seed)
    assert isinstance(module, SVM)
    return module


def examples(n: int = 150, inputs: int = 20, seed: int = 0) -> Examples:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, n)
    centres = np.random.default_rng(7).normal(size=(3, inputs))
    features = (centres[labels] * 0.8 + draw.normal(size=(n, inputs))).astype(np.float32)
    return Examples(features, labels, ("s",) * n, tuple(map(str, range(n))))


def trained(module: SVM, held: Examples, *settings: str, steps: int = 3000) -> np.ndarray:
    """Return the machines' scores (n, 3) of the clips after so many whole-batch steps."""
    config = Config().with_settings(["model.name=svm", "training.clip_norm=0", "training.rounds=1", "training.lr=0.02",
                                     "training.schedule=constant", f"training.batch_size={len(held)}",
                                     f"training.local_steps={steps}", *settings])
    schema = Schema.of(module)
    work = learner(module, schema, config, held, held.features, ("a", "b", "c"), peer=0,
                   target_statistics=TargetStatistics(clips=len(held)))
    row = schema.flatten(module)
    work.train_(row, work.memory(), 0)
    schema.bind(module, row)
    with torch.no_grad():
        return module(torch.from_numpy(held.features)).numpy()  # type: ignore[no-any-return]


def test_random_features_stand_for_the_kernel() -> None:
    draw = np.random.default_rng(0)
    x = torch.from_numpy(draw.normal(size=(40, 20)).astype(np.float32))
    exact = torch.exp(-torch.cdist(x, x) ** 2 / 20)
    errors = []
    for seed in range(3):
        mapped = machine(seed=seed).mapped(x)
        assert mapped.shape == (40, 8192)
        torch.testing.assert_close((mapped**2).sum(1), torch.ones(40))
        errors.append(float((mapped @ mapped.T - exact).square().mean().sqrt()))
    assert max(errors) < 0.01
    # What is orthogonal errs less than what is independent: Gaussian directions, the same number of them.
    directions = draw.normal(size=(20, 4096)).astype(np.float32) * math.sqrt(2 / 20)
    angles = x @ torch.from_numpy(directions)
    independent = (angles[:, None] - angles[None]).cos().mean(2)
    assert np.mean(errors) < float((independent - exact).square().mean().sqrt())


def test_directions_are_orthogonal_in_blocks_and_keyed() -> None:
    one, same, other = machine().directions, machine().directions, machine(seed=1).directions
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    block = one[:, :20]
    gram = block.T @ block
    assert float((gram - torch.diag(gram.diagonal())).abs().max()) < 1e-5
    assert float((one**2).sum(0).mean()) == pytest.approx(2.0, rel=0.05)  # 2 gamma D, gamma = 1 / D
    few = machine(inputs=50, random_features=20).directions
    assert few.shape == (50, 10)


def test_nothing_but_hyperplanes_is_in_the_row() -> None:
    assert Schema.of(machine()).size == 3 * 8192 + 3
    assert Schema.of(machine(kernel="linear")).size == 3 * 20 + 3
    assert not any(parameter.any() for parameter in machine().parameters())


@pytest.mark.parametrize("c", [0.3, 10.0])
def test_linear_machines_come_to_linear_svc(c: float) -> None:
    held = examples()
    gamma = 1 / 20
    scores = trained(machine(kernel="linear", c=c), held)
    reference = LinearSVC(C=c, tol=1e-8, max_iter=100000, dual=True).fit(held.features * math.sqrt(gamma), held.labels)
    np.testing.assert_allclose(scores, reference.decision_function(held.features * math.sqrt(gamma)), atol=0.05)


def test_rbf_machines_say_what_svc_says() -> None:
    held, fresh = examples(), examples(seed=1)
    module = machine(random_features=2048)
    trained(module, held, steps=1500)
    with torch.no_grad():
        said = module(torch.from_numpy(fresh.features)).argmax(1).numpy()
    reference = SVC(C=1.0, gamma=1 / 20).fit(held.features, held.labels)
    ours, theirs = np.mean(said == fresh.labels), reference.score(fresh.features, fresh.labels)
    assert ours > theirs - 0.03
    assert np.mean(said == reference.predict(fresh.features)) > 0.9


def test_it_refuses_matrices_and_decoupled_decay() -> None:
    with pytest.raises(ModelError, match="svm' takes functionals"):
        models.build(ModelSettings(name="svm"), (8, 30), 3, 0)
    held = examples(10)
    config = Config().with_settings(["model.name=svm", "training.optimizer=adamw"])
    module = machine()
    with pytest.raises(ConfigError, match=r"training\.optimizer=sgd"):
        learner(module, Schema.of(module), config, held, held.features, ("a", "b", "c"), peer=0)
