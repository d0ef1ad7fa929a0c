"""A setting chosen on inner folds: who is held out, who trains, and that the outer test plays no part."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.evaluation.metrics import Predictions
from p2pser.experiments import pool, temperature, tuning
from p2pser.experiments.grids import grid
from p2pser.experiments.jobs import Job, Plan
from p2pser.experiments.planning import baselines_of, plan
from p2pser.experiments.schemes import Scheme
from p2pser.features.federation import Examples, Federation, federate
from p2pser.graph import spec


@pytest.fixture(scope="module")
def config(spoken_tones: Callable[[int], Path]) -> Config:
    return Config().with_settings([
        "training.rounds=4", "training.local_steps=3", "model.hidden=[8]", "features.kind=logmel", "features.n_mels=16",
        "features.seconds=0.4", "model.name=cnn2d", "training.optimizer=sgd", "corpus.split=group:4",
        "corpus.name=folder",
        f"corpus.data={json.dumps(str(spoken_tones(8)))}"])


@pytest.fixture(scope="module")
def federation(config: Config) -> Federation:
    return federate(config, 6)


def of(speakers: tuple[str, ...]) -> Examples:
    size = len(speakers)
    return Examples(np.zeros((size, 2), np.float32), np.zeros(size, np.int64), speakers, speakers)


def test_each_training_speaker_is_held_out_once_and_nobody_trains_on_them_then(federation: Federation) -> None:
    assert federation.test is not None
    everybody = {path for examples in federation.train.values() for path in examples.paths}
    scored: list[str] = []
    for number, held_out in enumerate(tuning.groups(federation, 3)):
        one = tuning.inner(federation, number, 3)
        assert one.test is not None
        assert set(one.test.speakers) == held_out
        assert not held_out & {speaker for examples in one.train.values() for speaker in examples.speakers}
        trained = {path for examples in one.train.values() for path in examples.paths}
        assert trained | set(one.test.paths) == everybody
        assert not set(one.test.paths) & set(federation.test.paths)
        scored.extend(held_out)
    assert sorted(scored) == sorted({speaker for one in federation.train.values() for speaker in one.speakers})


def test_peers_that_share_speakers_keep_their_clips_of_the_others(federation: Federation) -> None:
    train = {0: of(("a", "b", "a")), 1: of(("c",)), 2: of(("b", "c", "b")), 3: of(())}
    shared = dataclasses.replace(federation, train=train)
    assert tuning.groups(shared, 3) == [frozenset("b"), frozenset("a"), frozenset("c")]
    one = tuning.inner(shared, 0, 3)
    assert [one.train[peer].speakers for peer in range(4)] == [("a", "a"), ("c",), ("c",), ()]
    assert one.test is not None
    assert one.test.speakers == ("b", "b", "b")
    with pytest.raises(ConfigError, match="4 inner folds need as many training speakers, and there are 3"):
        tuning.groups(shared, 4)


def test_the_best_value_is_the_first_of_the_highest_uar() -> None:
    def said(*predicted: int) -> Predictions:
        return Predictions.of([0, 0, 1, 1], list(predicted), ["s"] * 4, 2)

    right, poor, one_class = said(0, 0, 1, 1), said(0, 1, 1, 0), said(0, 0, 0, 0)
    assert tuning.best({"a": [[one_class], [poor]], "b": [[right], [poor]], "c": [[right], [poor]]}) == "b"
    assert tuning.best({"a": [[right, one_class], [poor, poor]], "b": [[right, right], [poor, poor]]}) == "b"


def test_a_comparison_takes_for_each_scheme_and_fold_what_its_inner_folds_say(config: Config, tmp_path: Path) -> None:
    algorithms = ["dfedavg", "quasi-global-momentum:training.momentum=0:training.lr=0.00001|0.2"]
    ring = spec.load("ring", 4)

    def planned() -> Plan:
        return plan(config, [ring], folds=(0, 1), out=tmp_path, algorithms=algorithms, tune="training.lr=0.00001,0.1",
                    inner=2)

    results = pool.run(planned(), processes=1)
    runs, chosen = results.plan, results.plan.chosen
    # Two rounds at so small a rate teach nothing: all take the larger one but by chance.
    tuned = [*(("gossip", label) for label in algorithms), *((kind, "") for kind in baselines_of(config))]
    assert set(chosen) == {(kind, label, fold) for fold in (0, 1) for kind, label in tuned}
    assert chosen["gossip", "dfedavg", 0] == "training.lr=0.1"
    for (kind, label, fold), value in chosen.items():
        settings = runs.settings(Job(kind, label, 0, fold))
        assert settings.training.lr == float(value.partition("=")[2])
        assert settings.corpus.fold == fold
    assert chosen["gossip", algorithms[1], 0] == "training.lr=0.2"
    momenta = [runs.settings(Job("gossip", label, 0, 0)).training.momentum for label in algorithms]
    assert momenta == [0.9, 0.0]
    assert len(results.outer) == 2 * 6
    seen: list[bool] = []
    pool.run(planned(), processes=1, done=lambda job, stored: seen.append(stored))
    assert all(seen)
    assert len(seen) == 2 * 6 + 2 * 2 * 2 * 6


@pytest.mark.parametrize(("arguments", "said"), [
    ({"tune": "training.lr=0.1"}, "two values or more"),
    ({"tune": "training.lr=0.1,0.1"}, "two values or more that differ"),
    ({"tune": "training.lr=0.1,0.2;training.lr=0.2,0.3"}, "training.lr is there twice"),
    ({"tune": "training.rl=0.1,0.2"}, "did you mean 'training.lr'"),
    ({"tune": "training.lr=-1,0.2"}, "training.lr"), ({"tune": "training.lr=0.1,0.2", "inner": 9}, "9 inner folds"),
    ({"algorithms": ["dfedavg:training.lr=0.1|0.2:training.momentum=0|0.9"]}, "more than one setting"),
    ({"algorithms": ["d-psgd"]}, "one gradient a round"), ({"algorithms": ["dfedvag"]}, "did you mean 'dfedavg'"),
    ({"algorithms": ["dfedavg", "dfedavg"]}, "named twice"),
    ({"tune": "seed=1,2"}, "seed=1: .* equal in all runs"), ({"tune": "name=a,b"}, "name=a: .* equal in all runs"),
    ({"tune": "training.lr=0.1,0.2;corpus.fold=0,1"}, "corpus.fold=0: .* equal in all runs"),
    ({"algorithms": ["dfedavg", "dfedavg:corpus.labels=anger"]}, "corpus.labels=anger: .* equal in all runs"),
    ({"algorithms": ["dfedavg:corpus.partition=iid|speaker"]}, "corpus.partition=iid: .* equal in all runs"),
    ({"algorithms": ["dfedavg", "dfedavg:training.task=dimensions"]}, "compared by their UAR"),
    ({"algorithms": ["dfedavg:training.task=both|dimensions"]}, "compared by their UAR"),
])
def test_what_cannot_be_compared_is_said_before_anything_runs(
    config: Config, tmp_path: Path, arguments: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        plan(config, [spec.load("ring", 4)], folds=(0,), out=tmp_path, **arguments)  # type: ignore[arg-type]


def test_several_settings_are_tuned_as_a_grid(config: Config) -> None:
    points = grid("training.lr=0.1,0.2;model.hidden=[8,4],[6]")
    assert points == ("training.lr=0.1;model.hidden=[8,4]", "training.lr=0.1;model.hidden=[6]",
                      "training.lr=0.2;model.hidden=[8,4]", "training.lr=0.2;model.hidden=[6]")
    runs = Plan({}, {"": Scheme.of(config, points=points)}, (0,), (0,), None, kinds=("pooled",))
    assert len(runs.tuning_jobs()) == 3 * 4
    tuned = runs.settings(runs.tuning_jobs()[2])
    assert (tuned.training.lr, tuned.model.hidden) == (0.2, (8, 4))
    with pytest.raises(ConfigError, match="two values or more"):
        grid("training.lr=0.1,0.2;model.hidden=[8,4]")


def test_a_temperature_is_fitted_on_speakers_whom_nobody_trained_on(config: Config, federation: Federation,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[Predictions]] = []
    real = temperature.calibration.fit
    monkeypatch.setattr(temperature.calibration, "fit", lambda several: seen.append(several) or real(several))
    done: list[int] = []
    found = temperature.fit(config.with_settings(["training.rounds=1"]), spec.load("ring", 6), federation, 2,
                            done.append)
    several = seen[0]
    assert (found.temperature, done) == (real(several), [1, 2])
    assert found.how == "2 inner folds: each training speaker by a model that was not trained on them"
    numbers = (0, 1, 2, 5, 9) if federation.normalise == "speaker" else (0,)
    assert tuple(each.clips for each in found.heard) == tuple(each.heard for each in found.sets) == numbers
    assert {(each.speakers, each.clips) for each in found.sets} == {(6, sum(len(one.targets) for one in several))}
    assert {len(everything.targets) for (everything,) in seen[1:]} == {sum(len(one.targets) for one in several)}
    assert all(one.logits is not None for one in several)
    assert federation.test is not None
    said = [path for one in several for path in one.paths]
    assert sorted(said) == sorted(path for one in federation.train.values() for path in one.paths)
    assert not set(said) & set(federation.test.paths)
