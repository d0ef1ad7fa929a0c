"""The estimator of scikit-learn: its contract, and that what it trains is a run by gossip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra sklearn is not installed")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.utils.estimator_checks import check_estimator

import p2pser
from p2pser.base.errors import ConfigError
from p2pser.inference.predictor import load
from p2pser.simulation.estimator import Classifier

EMOTIONS = np.array(["sadness", "anger", "joy"] * 16)
SPEAKERS = np.repeat(["cy", "ann", "bob", "dee"], 12)
FEATURES = np.random.default_rng(0).normal(size=(48, 5)) + 3 * (EMOTIONS[:, None] == np.array(
    ["anger", "joy", "sadness", "anger", "joy"]))
SMALL = {"model.hidden": [8], "model.dropout": 0.0}


@pytest.mark.filterwarnings("ignore")
def test_the_contract_of_scikit_learn() -> None:
    found = check_estimator(Classifier(rounds=8, peers=2, settings={**SMALL, "model.hidden": [16]}), on_fail=None,
                            on_skip=None)
    assert [each["check_name"] for each in found if each["status"] not in ("passed", "skipped")] == []
    assert sum(each["status"] == "passed" for each in found) >= 40


def test_each_group_is_a_peer() -> None:
    model = Classifier("exponential", rounds=4, settings=SMALL).fit(FEATURES, EMOTIONS, groups=SPEAKERS)
    clips = model.simulation_.federation.train
    assert [len(part.labels) for part in clips.values()] == [12, 12, 12, 12]
    np.testing.assert_allclose(clips[0].features, FEATURES[SPEAKERS == "ann"].astype(np.float32))
    data = p2pser.federate(peers=4, features=FEATURES, labels=list(EMOTIONS), owners=np.unique(
        SPEAKERS, return_inverse=True)[1], settings={"features.normalise": "global"})
    run = p2pser.simulate("exponential", peers=4, data=data, settings={
        "training.rounds": 4, "features.normalise": "global", **SMALL})
    np.testing.assert_array_equal(run.row.numpy(), model.simulation_.row.numpy())
    assert list(model.classes_) == ["anger", "joy", "sadness"]
    assert model.score(FEATURES, EMOTIONS) > 0.9


def test_without_groups_each_peer_has_clips_of_each_class() -> None:
    model = Classifier(rounds=1, peers=3, settings=SMALL).fit(FEATURES, EMOTIONS)
    for part in model.simulation_.federation.train.values():
        assert min(np.bincount(part.labels, minlength=3)) >= 5
    with pytest.raises(ValueError, match="peers == 0"):
        Classifier(peers=0).fit(FEATURES, EMOTIONS)


def test_it_can_be_cloned_and_searched() -> None:
    search = GridSearchCV(Classifier(settings=SMALL), {"rounds": [0, 4]}, cv=GroupKFold(2)).fit(
        FEATURES, EMOTIONS, groups=SPEAKERS)
    assert search.best_params_ == {"rounds": 4}
    assert clone(search.best_estimator_).get_params()["settings"] == SMALL


def test_it_is_saved_as_a_model_directory(tmp_path: Path) -> None:
    model = Classifier(rounds=2, settings=SMALL).fit(FEATURES, EMOTIONS)
    model.save(tmp_path / "model")
    answers = load(tmp_path / "model").answers(FEATURES.astype(np.float32))
    np.testing.assert_allclose([list(each.probabilities.values()) for each in answers], model.predict_proba(FEATURES),
                               atol=1e-6)
    assert [each.label for each in answers] == list(model.predict(FEATURES))


def test_labels_that_no_card_can_name_are_numbered() -> None:
    labels = np.where(EMOTIONS == "joy", "", " ")
    model = Classifier(rounds=1, settings=SMALL).fit(FEATURES, labels)
    assert model.simulation_.federation.labels == ("class 0", "class 1")
    assert set(model.predict(FEATURES)) <= {"", " "}


def test_wrong_settings_are_sentences() -> None:
    with pytest.raises(ConfigError, match=r"gossip\.algorithm"):
        Classifier(algorithm="nothing").fit(FEATURES, EMOTIONS)
