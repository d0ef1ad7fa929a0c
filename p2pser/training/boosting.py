"""The local work of a peer whose model is trees: in each round XGBoost grows a tree set on the shared ensemble.

XGBoost is the extra ``trees``, which only the growth of trees needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pser.base import seeding
from p2pser.base.errors import ConfigError, ModelError
from p2pser.models.networks.trees import TreeEnsemble, numbers
from p2pser.training.learner import Learner
from p2pser.training.losses import Targets, as_shares
from p2pser.training.optimisers import Optimizer
from p2pser.wire.tree_sets import LARGEST_LEAF


def xgboost() -> Any:
    """Return the module xgboost. Raises ConfigError, naming the extra, where it is not installed."""
    try:
        import xgboost as library
    except ImportError:
        raise ConfigError("model.name=xgb grows its trees with XGBoost, which is not installed: "
                          "pip install p2pser[trees]") from None
    return library


class _Data(NamedTuple):
    """The data of a round's trees. places : the clip of each row of the matrix (soft labels give it several rows)."""

    features: Tensor
    targets: Targets
    matrix: Any
    places: Tensor


class TreeLearner(Learner):
    """A ``Learner`` whose work of a round is one tree set, written to its place in the row.

    With N peers the place is round * N + peer (in a model of one peer's trees: the round), and the leaves are
    multiplied by eta min(1, gain / N): of the trees that N peers grow in parallel on the same margins, gain times the
    mean is added, never more than their sum. The clips and features of a tree depend on (seed, peer, round) alone. Of
    ``training``, ``rounds``, ``threads``, soft labels and weights of classes have an effect. Trees are grown on all
    copies of clips, and on each clip with the augmentation of the round.
    """

    def __init__(self, module: TreeEnsemble, *arguments: Any, **options: Any) -> None:
        super().__init__(module, *arguments, **options)
        self.ensemble = module
        self.peers = max(1, len(module.trees) // max(1, self.training.rounds))
        # Boosting has no optimiser: the trees are its state.
        self.optimizer = Optimizer(self.training.model_copy(update={"optimizer": "sgd", "momentum": 0.0}))
        self._xgboost = xgboost()
        self._data: _Data | None = None

    def train_(self, row: Tensor, memory: dict[str, Tensor], round: int,
               report: Callable[[int], None] | None = None, correction: Tensor | None = None) -> float:
        """Grow the tree set of ``round`` on the margins of the ensemble ``row``, and write it to its place there.

        Returns the mean cross entropy of the clips before that. Parameters as in ``Learner.train_``.
        """
        growth, depth, classes = self.ensemble.growth, self.ensemble.depth, self.ensemble.trees.shape[1]
        data = self._data_of(round, classes)
        self.schema.bind(self.ensemble, row.clone())
        with torch.inference_mode():
            margins = self.ensemble(data.features)
            loss = float(self.objective(margins, data.targets))
        data.matrix.set_base_margin(margins[data.places].numpy())
        booster = self._xgboost.train({
            "objective": "multi:softprob", "num_class": classes, "base_score": 0.5, "tree_method": "hist",
            "eta": growth.eta * min(1.0, growth.gain / self.peers), "max_depth": depth,
            "reg_lambda": growth.reg_lambda, "subsample": growth.subsample,
            "colsample_bynode": growth.columns, "nthread": self.training.threads, "verbosity": 0,
            "seed": seeding.key(self.seed, "trees", self.peer, round) % 2**31}, data.matrix, 1)
        place = round * self.peers + (self.peer if self.peers > 1 else 0)
        dict(self.schema.views(row))["trees"][place] = torch.from_numpy(arrays(booster, classes, depth))
        if report is not None:
            report(1)
        return loss

    def _data_of(self, round: int, classes: int) -> _Data:
        """Return the data of a round's trees: without augmentation the same in all rounds."""
        if self._data is not None:
            return self._data
        versions = 1 + self.copies
        features, targets = self._versions, Targets(torch.cat([self.targets.of_classes()] * versions))
        if self.augmentation is not None:
            features, targets = self.augmentation(features, targets, seed=self.seed, peer=self.peer, round=round,
                                                  step=0)
        shares = as_shares(targets.of_classes(), classes).nan_to_num(0.0) / versions
        if self.objective.weights is not None:
            shares = shares * self.objective.weights
        if self.often is not None:
            shares = shares * torch.from_numpy(np.tile(np.asarray(self.often, dtype=np.float32), versions))[:, None]
        places, labels = shares.nonzero(as_tuple=True)
        matrix = self._xgboost.DMatrix(features[places].numpy(), label=labels.numpy(),
                                       weight=shares[places, labels].numpy())
        data = _Data(features, targets, matrix, places)
        if self.augmentation is None:
            self._data = data
        return data

    def gradient(self, row: Tensor, round: int, step: int = 0) -> tuple[Tensor, float]:
        """Raise ConfigError: trees have no gradient."""
        raise ConfigError("model.name=xgb has no gradients to exchange: set gossip.algorithm=trees")


def arrays(booster: Any, classes: int, depth: int) -> NDArray[np.float32]:
    """Return the trees of a booster's only round as (classes, ``numbers(depth)``) float32 (see ``networks.trees``).

    Leaves are clipped to ``LARGEST_LEAF``. Raises ModelError where the booster does not hold one tree of at most this
    depth per class.
    """
    document = json.loads(booster.save_raw("json"))
    model = document["learner"]["gradient_booster"]["model"]
    table = np.zeros((classes, numbers(depth)), dtype=np.float32)
    if sorted(model["tree_info"]) != list(range(classes)):
        raise ModelError(f"XGBoost grew {len(model['trees'])} trees instead of one for each of {classes} classes")
    for label, tree in zip(model["tree_info"], model["trees"]):
        _fill(table[label], tree, depth)
    return table


def _fill(into: NDArray[np.float32], tree: Mapping[str, Any], depth: int) -> None:
    inner = 2**depth - 1
    left, right = tree["left_children"], tree["right_children"]
    features, values = tree["split_indices"], tree["split_conditions"]

    def fill(node: int, place: int) -> None:
        if place >= inner:
            if left[node] != -1:
                raise ModelError(f"XGBoost grew a tree deeper than {depth}")
            into[inner + place] = min(max(values[node], -LARGEST_LEAF), LARGEST_LEAF)
            return
        if left[node] == -1:
            # A leaf above the last level: all leaves below its place have its value.
            fill(node, 2 * place + 1)
            fill(node, 2 * place + 2)
            return
        into[place], into[inner + place] = features[node], values[node]
        fill(left[node], 2 * place + 1)
        fill(right[node], 2 * place + 2)

    fill(0, 0)
