"""Groups that lose more weigh more: the gradient of the stated objective, its limits, and who is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

from p2pser.base.errors import ConfigError, CorpusError
from p2pser.config import Config, TrainingSettings
from p2pser.corpora.folds import Split
from p2pser.corpora.manifest import Corpus
from p2pser.features.federation import Examples, Federation
from p2pser.graph.spec import Topology
from p2pser.models.nested import Nested, nest
from p2pser.simulation.engine import simulate
from p2pser.training.fairness import Fairness, loss_of_guessing
from p2pser.training.learner import Learner
from p2pser.training.local_work import learner
from p2pser.training.together import kind

PLAIN = ("model.hidden=[4]", "model.dropout=0", "training.clip_norm=0", "training.weight_decay=0",
         "training.momentum=0", "training.batch_size=64", "training.local_steps=1", "training.label_smoothing=0",
         "training.schedule=constant")


def clips(seed: int = 0, n: int = 24) -> Examples:
    """The third speaker's clips have less to tell them apart."""
    draw = np.random.default_rng(seed)
    speakers = tuple(f"s{i % 3}" for i in range(n))
    labels = np.arange(n) // 3 % 3
    features = draw.normal(size=(n, 6)) + np.eye(6)[labels] * (np.arange(n) % 3 < 2)[:, None] * 2
    return Examples(features.astype(np.float32), labels, speakers, tuple(map(str, range(n))),
                    tuple("fmf"[i % 3] for i in range(n)), languages=("de",) * n)


def work(*settings: str, examples: Examples | None = None) -> tuple[Learner, Nested]:
    config = Config().with_settings([*PLAIN, *settings])
    held, network = examples or clips(), nest(config.model, (6,), 3, 0, [])[1.0]
    return learner(network.module, network.schema, config, held, held.features, ("a", "b", "c"), peer=0), network


def trained(one: Learner, network: Nested, rounds: int) -> torch.Tensor:
    row = network.start.clone()
    for round in range(rounds):
        one.train_(row, one.memory(), round)
    return row


def phi(loss: torch.Tensor, strength: float) -> torch.Tensor:
    """The function whose slope is the weight."""
    half = math.log(3) / 2
    risen = half / strength * torch.exp(strength * (loss.clamp(max=2 * half) / half - 1))
    return risen + math.exp(strength) * (loss - 2 * half).relu()


@pytest.mark.parametrize(("fairness", "names"), [
    ("speaker", clips().speakers), ("sex", clips().genders), ("language", ("de",) * 24)])
def test_a_step_follows_the_gradient_of_the_objective(fairness: str, names: tuple[str, ...]) -> None:
    one, network = work(f"training.fairness={fairness}", "training.fairness_strength=2")
    for rounds in (0, 40):  # some groups lose more than guessing at first
        row = trained(one, network, rounds)
        found, _ = one.gradient(row, 0)
        slope = network.schema.bind(network.module, row)
        slope.zero_()
        outputs, total = network.module(one.features), torch.zeros(())
        for name in set(names):
            own = torch.tensor([i for i, each in enumerate(names) if each == name])
            total = total + len(own) / 24 * phi(one.objective(outputs[own], one.targets.at(own)), 2.0)
        total.backward()
        torch.testing.assert_close(found, slope, rtol=1e-4, atol=1e-6)


def test_weights_are_bounded_by_guessing() -> None:
    fair = Fairness(torch.zeros(1, dtype=torch.int64), 1.5, 2.0)
    assert [fair.weight(loss) for loss in (0.0, 1.0, 2.0, 50.0)] == pytest.approx(
        [math.exp(-1.5), 1.0, math.exp(1.5), math.exp(1.5)])


def test_the_loss_of_guessing_is_that_of_equal_scores() -> None:
    both = TrainingSettings(task="both", dimension_weight=0.5)
    assert loss_of_guessing(TrainingSettings(), "cross-entropy", 7) == pytest.approx(math.log(7))
    assert loss_of_guessing(TrainingSettings(), "squared-hinge", 7) == 7
    assert loss_of_guessing(both, "cross-entropy", 7) == pytest.approx(math.log(7) + 0.5)
    assert loss_of_guessing(TrainingSettings(task="dimensions"), "cross-entropy", 0) == 1


def test_a_clipped_gradient_is_weighed_after_clipping() -> None:
    """A limit of the norm would otherwise take the weight of a peer with one group back."""
    alone = replace(clips(), speakers=("s",) * 24)
    plain, network = work("training.clip_norm=0.01", examples=alone)
    fair, _ = work("training.clip_norm=0.01", "training.fairness=speaker", examples=alone)
    one, two = (each.gradient(network.start, 0) for each in (plain, fair))
    weight = fair.fairness.weight(one[1])
    assert abs(weight - 1) > 0.5
    torch.testing.assert_close(two[0], one[0] * weight)
    assert two[1] == pytest.approx(one[1])


def test_steps_of_adamw_are_weighed_by_their_rate() -> None:
    settings = ("training.optimizer=adamw", "training.lr=0.01")
    alone = replace(clips(), speakers=("s",) * 24)
    moved = []
    for more in ((), ("training.fairness=speaker",)):
        one, network = work(*settings, *more, examples=alone)
        row = network.start.clone()
        loss = one.train_(row, one.memory(), 0)
        moved.append(row - network.start)
    torch.testing.assert_close(moved[1], moved[0] * one.fairness.weight(loss), rtol=1e-3, atol=1e-6)


def opposed() -> dict[int, Examples]:
    """Two peers of one speaker each, who take the third emotion for different ones; the first is easier to tell."""
    draw, train = np.random.default_rng(3), {}
    for peer in range(2):
        labels = np.arange(30) % 3
        features = draw.normal(size=(30, 3)) * 0.7 + np.eye(3)[(labels + (labels == 2) * peer) % 3] * (2 - peer)
        train[peer] = Examples(features.astype(np.float32), labels, (f"s{peer}",) * 30, tuple(map(str, range(30))))
    return train


def rest(train: dict[int, Examples], *settings: str, rounds: int = 120) -> tuple[torch.Tensor, Config]:
    """Return where d-psgd on a complete graph comes to, and its settings: X <- mean(X - lr G(X))."""
    config = Config().with_settings([*PLAIN, "model.hidden=[]", "gossip.algorithm=d-psgd", "training.lr=0.6",
                                     f"training.rounds={rounds}", *settings])
    network = nest(config.model, (3,), 3, 0, [])[1.0]
    both = [learner(network.module, network.schema, config, held, held.features, ("a", "b", "c"), peer=peer)
            for peer, held in train.items()]
    row = network.start.clone()
    for round in range(rounds):
        row = row - 0.6 * (both[0].gradient(row, round)[0] + both[1].gradient(row, round)[0]) / 2
    return row, config


def test_gossip_rests_where_the_weighed_gradients_cancel_and_strength_closes_the_gap() -> None:
    train, rows, gaps = opposed(), {}, {}
    for strength in (0.001, 2.0):
        row, config = rest(train, "training.fairness=speaker", f"training.fairness_strength={strength}")
        plain, network = config.with_settings(["training.fairness=none"]), nest(config.model, (3,), 3, 0, [])[1.0]
        gradients, losses = zip(*(learner(network.module, network.schema, plain, held, held.features,
                                          ("a", "b", "c"), peer=peer).gradient(row, 0)
                                  for peer, held in train.items()))
        weights = [math.exp(strength * (2 * loss / math.log(3) - 1)) for loss in losses]
        together = sum(weight * gradient for weight, gradient in zip(weights, gradients))
        assert float(together.norm()) < 0.05 * max(weight * float(g.norm()) for weight, g in zip(weights, gradients))
        rows[strength], gaps[strength] = row, losses[1] - losses[0]
    none, _ = rest(train)
    assert float((rows[0.001] - none).norm() / none.norm()) < 0.005  # no strength, no fairness
    assert gaps == {0.001: pytest.approx(0.77, abs=0.02), 2.0: pytest.approx(0.56, abs=0.02)}


def test_a_run_by_gossip_takes_these_steps() -> None:
    train = opposed()
    row, config = rest(train, "training.fairness=speaker", rounds=5)
    federation = Federation(("a", "b", "c"), train, None, Split("none", (), (), (), False), Corpus("made-up", "", ()),
                            "none", [], 0, ((), ()))
    run = simulate(config, Topology("complete", nx.complete_graph(2), {}, "metropolis", {}), federation)
    torch.testing.assert_close(run.row, row, rtol=1e-5, atol=1e-6)


def test_learners_that_weigh_take_their_steps_alone() -> None:
    assert kind(work()[0]) is not None
    assert kind(work("training.fairness=sex")[0]) is None


def test_a_unit_of_a_budget_is_weighed_by_its_own_clips() -> None:
    one, network = work("training.fairness=sex", "privacy.unit=speaker")
    network.schema.bind(network.module, trained(one, network, 40))
    weights = []
    for unit in range(3):
        part = one.of_unit(unit)
        loss = one.objective(part.outputs(part.features), part.targets).item()
        found = part.fairness.weights(lambda clips, part=part: part.outputs(part.features[clips]), part.objective,
                                      part.targets, torch.arange(part.clips))
        weights.append(found[-1].item())
        assert weights[-1] == pytest.approx(part.fairness.weight(loss))
    assert len(set(weights)) == 3


@pytest.mark.parametrize(("settings", "text"), [
    (["training.fairness=sex", "augment.mixup=0.2"], "leave one of them out"),
    (["training.fairness=speaker", "model.name=xgb"], "set training.fairness=none"),
])
def test_what_does_not_go_together_is_refused(settings: list[str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Config().with_settings(settings)


def test_speakers_without_names_are_refused() -> None:
    unnamed: Any = replace(clips(), speakers=("unknown",) * 24)
    with pytest.raises(CorpusError, match="not all clips name theirs"):
        work("training.fairness=speaker", examples=unnamed)
