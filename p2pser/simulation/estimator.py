"""A scikit-learn estimator (extra ``sklearn``) that trains by gossip among groups, in the simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pser import models
from p2pser.base import seeding
from p2pser.base.errors import ConfigError
from p2pser.base.wording import extra
from p2pser.config import configured
from p2pser.features.arrays import from_arrays
from p2pser.graph.spec import load as load_topology
from p2pser.inference.predictor import Predictor
from p2pser.models import directory, label_names
from p2pser.run.account import account
from p2pser.run.card import card
from p2pser.simulation.engine import simulate

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data
except ImportError:
    raise ConfigError(f"p2pser.Classifier needs scikit-learn 1.6 or newer: {extra('sklearn')}") from None

if TYPE_CHECKING:
    from p2pser.models.rows import Schema
    from p2pser.simulation.results import Simulation


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier of feature vectors, trained by gossip: each group of clips is a peer, which trains on its own clips.

    Parameters
    ----------
    topology : a shipped topology or the path of a file; its number of peers is that of the groups.
    algorithm : the gossip algorithm.
    model : the family of models.
    rounds : communication rounds.
    peers : number of peers where ``fit`` has no groups: the clips are partitioned over them.
    normalise : the scaling of features: global (by the statistics of all training clips, from gossip) or none.
    settings : further settings of the run, ``{"training.lr": 0.02, "model.hidden": [64]}``.
    random_state : seed, as everywhere in scikit-learn.

    Attributes
    ----------
    classes_ : the labels, sorted.
    simulation_ : the results of the training run (``p2pser.simulate``).

    Example
    -------
    >>> from sklearn.model_selection import GroupKFold, cross_val_score
    >>> model = p2pser.Classifier(topology="exponential")                               # doctest: +SKIP
    >>> model.fit(features, emotions, groups=speakers).predict(others)                  # doctest: +SKIP
    """

    def __init__(self, topology: str = "ring", *, algorithm: str = "dfedavg", model: str = "mlp", rounds: int = 40,
                 peers: int = 4, normalise: str = "global", settings: Mapping[str, Any] | None = None,
                 random_state: Any = 0) -> None:
        self.topology = topology
        self.algorithm = algorithm
        self.model = model
        self.rounds = rounds
        self.peers = peers
        self.normalise = normalise
        self.settings = settings
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Classifier:
        """Train, and return the estimator.

        Parameters
        ----------
        X : (n, D), finite, not scaled.
        y : (n,), the label of each clip.
        groups : (n,), the holder of each clip, such as its speaker: each is a peer. Default: ``peers`` peers.

        Raises
        ------
        ValueError, ConfigError : where the arrays or the settings do not fit together.
        """
        values, labels = validate_data(self, X, y, dtype="numeric", ensure_min_samples=2)
        check_classification_targets(labels)
        self.classes_, indices = np.unique(column_or_1d(labels, warn=True), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("Classifier needs clips of 2 classes or more, and all are of one class, "
                             f"{self.classes_[0]}")
        seed = _seed(self.random_state)
        owners = _owners(groups, len(values), indices, self.peers, seed)
        count = int(owners.max()) + 1
        config = configured({"gossip.algorithm": self.algorithm, "model.name": self.model, "seed": seed,
                             "training.rounds": self.rounds, **(self.settings or {})})
        places = [f"class {k}" for k in range(len(self.classes_))]  # classes stay apart whose emotions have one name
        federation = from_arrays(values, [places[k] for k in indices], peers=count, owners=owners, label_order=places,
                                 normalise=self.normalise, seed=seed)
        federation = replace(federation, labels=tuple(_names(self.classes_)))
        self.simulation_ = done = simulate(config, load_topology(self.topology, count), federation, each_peer=False)
        self._card = card(done.config, done.topology, federation, done.statistics,
                          agreed=account(count, done.final)["agreed"])
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probabilities (n, classes) in the order of ``classes_``."""
        check_is_fitted(self)
        values = validate_data(self, X, reset=False, dtype="numeric")
        answers = self._predictor().answers(values.astype(np.float32))
        return np.array([list(each.probabilities.values()) for each in answers])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable label of each row."""
        chances = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[chances.argmax(axis=1)]
        return labels

    def save(self, path: str | Path) -> None:
        """Write the model as a model directory, for ``p2pser.load`` and its ``answers``.

        Raises ModelError where ``path`` exists or cannot be written.
        """
        check_is_fitted(self)
        directory.save(path, self.simulation_.row, self.simulation_.schema, self._card)

    def _predictor(self) -> Predictor:
        done: Simulation = self.simulation_
        schema: Schema = done.schema
        network = models.build(self._card.model, self._card.shape, len(self.classes_), self._card.seed)
        schema.bind(network, done.row.clone())
        return Predictor(network, self._card)


def _seed(random_state: Any) -> int:
    if isinstance(random_state, (int, np.integer)):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _names(classes: NDArray[Any]) -> list[str]:
    """Return the classes as labels of a model card."""
    names = [str(each) for each in classes]
    return names if label_names.are_distinct(names) else [f"class {k}" for k in range(len(names))]


def _owners(groups: ArrayLike | None, count: int, labels: NDArray[np.intp], peers: int, seed: int) -> NDArray[np.intp]:
    """Return the peer of each clip: its group's, or the next in turn among the clips of a label in random order."""
    if groups is not None:
        check_consistent_length(groups, labels)
        return np.unique(column_or_1d(np.asarray(groups)), return_inverse=True)[1]
    if not (isinstance(peers, (int, np.integer)) and peers >= 1):
        raise ValueError(f"peers == {peers}, must be 1 or more")
    shuffled = seeding.generator(seed, "dealing clips").permutation(count)
    owners = np.empty(count, dtype=np.intp)
    owners[shuffled[np.argsort(labels[shuffled], kind="stable")]] = np.arange(count) % min(int(peers), count)
    return owners
