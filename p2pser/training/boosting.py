"""The local work of a peer whose model is trees: in each round XGBoost grows one tree set on the shared ensemble.

XGBoost is the extra ``trees``; it is imported where a tree set is grown, and nowhere else.
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
    """Return the library. Raises ConfigError, naming the extra, where it is not installed."""
    try:
        import xgboost as library
    except ImportError:
        raise ConfigError("model.name=xgb grows its trees with XGBoost, which is not installed: "
                          "pip install p2pser[trees]") from None
    return library


class _Seen(NamedTuple):
    """Clips as a round's trees see them. places: of each of the matrix's rows, its clip (several: soft labels)."""

    features: Tensor
    targets: Targets
    matrix: Any
    places: Tensor


class TreeLearner(Learner):
    """A ``Learner`` whose work of a round is one tree set, written to its place in the row.

    With N peers the place is round * N + peer (in a model of one peer's trees: the round), and a tree counts
    eta min(1, gain / N) of what it found: of the trees that N peers grow side by side on the same margins, gain times
    the mean is added, never more than their sum. Which clips and features a tree sees depends on (seed, peer, round)
    alone. Heeds ``training.rounds`` and ``threads``, soft labels, weights of classes,
    and what varies clips: a round's trees see all copies, and each clip as it is varied in that round.
    """

    def __init__(self, module: TreeEnsemble, *arguments: Any, **options: Any) -> None:
        super().__init__(module, *arguments, **options)
        self.ensemble = module
        self.peers = max(1, len(module.trees) // max(1, self.training.rounds))
        # All that boosting remembers are the trees.
        self.optimizer = Optimizer(self.training.model_copy(update={"optimizer": "sgd", "momentum": 0.0}))
        self._xgboost = xgboost()
        self._seen: _Seen | None = None

    def train_(self, row: Tensor, memory: dict[str, Tensor], round: int,
               report: Callable[[int], None] | None = None, correction: Tensor | None = None) -> float:
        """Grow the tree set of ``round`` on the margins of the ensemble ``row`` and write it there.

        Returns the mean cross entropy of the clips before it.
        """
        growth, depth, classes = self.ensemble.growth, self.ensemble.depth, self.ensemble.trees.shape[1]
        seen = self._look(round, classes)
        self.schema.bind(self.ensemble, row.clone())
        with torch.inference_mode():
            margins = self.ensemble(seen.features)
            loss = float(self.objective(margins, seen.targets))
        seen.matrix.set_base_margin(margins[seen.places].numpy())
        booster = self._xgboost.train({
            "objective": "multi:softprob", "num_class": classes, "base_score": 0.5, "tree_method": "hist",
            "eta": growth.eta * min(1.0, growth.gain / self.peers), "max_depth": depth,
            "reg_lambda": growth.reg_lambda, "subsample": growth.subsample,
            "colsample_bynode": growth.columns, "nthread": self.training.threads, "verbosity": 0,
            "seed": seeding.key(self.seed, "trees", self.peer, round) % 2**31}, seen.matrix, 1)
        place = round * self.peers + (self.peer if self.peers > 1 else 0)
        dict(self.schema.views(row))["trees"][place] = torch.from_numpy(arrays(booster, classes, depth))
        if report is not None:
            report(1)
        return loss

    def _look(self, round: int, classes: int) -> _Seen:
        """What the trees of a round are grown on: the same in all rounds where nothing is varied by round."""
        if self._seen is not None:
            return self._seen
        assert self.targets.classes is not None
        versions = 1 + self.copies
        features, targets = self._versions, Targets(torch.cat([self.targets.classes] * versions))
        if self.augmentation is not None:
            features, targets = self.augmentation(features, targets, seed=self.seed, peer=self.peer, round=round,
                                                  step=0)
        assert targets.classes is not None
        shares = as_shares(targets.classes, classes).nan_to_num(0.0) / versions
        if self.objective.weights is not None:
            shares = shares * self.objective.weights
        if self.often is not None:
            shares = shares * torch.from_numpy(np.tile(np.asarray(self.often, dtype=np.float32), versions))[:, None]
        places, labels = shares.nonzero(as_tuple=True)
        matrix = self._xgboost.DMatrix(features[places].numpy(), label=labels.numpy(),
                                       weight=shares[places, labels].numpy())
        seen = _Seen(features, targets, matrix, places)
        if self.augmentation is None:
            self._seen = seen
        return seen

    def gradient(self, row: Tensor, round: int, step: int = 0) -> tuple[Tensor, float]:
        """Trees have no gradient."""
        raise ConfigError("model.name=xgb has no gradients to exchange: set gossip.algorithm=trees")


def arrays(booster: Any, classes: int, depth: int) -> NDArray[np.float32]:
    """Return the trees of a booster's only round as (classes, ``numbers(depth)``) float32 (see ``networks.trees``).

    Leaves are cut to ``LARGEST_LEAF``.

    Raises ModelError where it holds other trees than one of at most this depth a class.
    """
    document = json.loads(booster.save_raw("json"))
    model = document["learner"]["gradient_booster"]["model"]
    found = np.zeros((classes, numbers(depth)), dtype=np.float32)
    if sorted(model["tree_info"]) != list(range(classes)):
        raise ModelError(f"XGBoost grew {len(model['trees'])} trees where one for each of {classes} classes is due")
    for label, tree in zip(model["tree_info"], model["trees"]):
        _fill(found[label], tree, depth)
    return found


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
            # A leaf above the last level: whichever way a clip goes below it, it comes to this value.
            fill(node, 2 * place + 1)
            fill(node, 2 * place + 2)
            return
        into[place], into[inner + place] = features[node], values[node]
        fill(left[node], 2 * place + 1)
        fill(right[node], 2 * place + 2)

    fill(0, 0)
