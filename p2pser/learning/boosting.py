"""The local work of a peer whose model is trees: in each round XGBoost grows one tree set on the shared ensemble.

XGBoost is the extra ``trees``; it is imported where a tree set is grown, and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from p2pser import seeding
from p2pser.errors import ConfigError, ModelError
from p2pser.learning.learner import Learner
from p2pser.learning.losses import as_shares
from p2pser.learning.optim import Optimizer
from p2pser.models.xgb import TreeEnsemble, numbers


def xgboost() -> Any:
    """Return the library. Raises ConfigError, naming the extra, where it is not installed."""
    try:
        import xgboost as library
    except ImportError:
        raise ConfigError("model.name=xgb grows its trees with XGBoost, which is not installed: "
                          "pip install p2pser[trees]") from None
    return library


class TreeLearner(Learner):
    """A ``Learner`` whose work of a round is one tree set, written to its place in the row.

    With N peers the place is round * N + peer (in a model of one peer's trees: the round) and the step eta / N: of the
    trees that N peers grow side by side on the same margins, the mean is added. Which clips and features a tree sees
    depends on (seed, peer, round) alone. Heeds ``training.rounds`` and ``threads``, soft labels, and classes' weights.
    """

    def __init__(self, module: nn.Module, *arguments: Any, **options: Any) -> None:
        super().__init__(module, *arguments, **options)
        assert isinstance(module, TreeEnsemble)
        self.ensemble = module
        self.peers = max(1, len(module.trees) // max(1, self.training.rounds))
        # All that boosting remembers are the trees.
        self.optimizer = Optimizer(self.training.model_copy(update={"optimizer": "sgd", "momentum": 0.0}))
        self._xgboost = xgboost()
        self._matrix: Any = None

    def train_(self, row: Tensor, memory: dict[str, Tensor], round: int,
               report: Callable[[int], None] | None = None, correction: Tensor | None = None) -> float:
        """Grow the tree set of ``round`` on the margins of the ensemble ``row`` and write it there.

        Returns the mean cross entropy of the clips before it.
        """
        settings, classes = self.ensemble.settings, self.ensemble.trees.shape[1]
        self.schema.bind(self.ensemble, row.clone())
        with torch.inference_mode():
            margins = self.ensemble(self.features)
            loss = float(self.objective(margins, self.targets))
        matrix, places = self._clips(classes)
        matrix.set_base_margin(margins.numpy()[places])
        booster = self._xgboost.train({
            "objective": "multi:softprob", "num_class": classes, "base_score": 0.5, "tree_method": "hist",
            "eta": settings.trees_eta / self.peers, "max_depth": settings.trees_depth,
            "reg_lambda": settings.trees_lambda, "subsample": settings.trees_subsample,
            "colsample_bynode": settings.trees_columns, "nthread": self.training.threads, "verbosity": 0,
            "seed": seeding.key(self.seed, "trees", self.peer, round) % 2**31}, matrix, 1)
        place = round * self.peers + (self.peer if self.peers > 1 else 0)
        dict(self.schema.views(row))["trees"][place] = torch.from_numpy(arrays(booster, classes, settings.trees_depth))
        if report is not None:
            report(1)
        return loss

    def _clips(self, classes: int) -> tuple[Any, NDArray[np.int64]]:
        """XGBoost's matrix of the clips, made once, and the clip of each of its rows: several where labels are soft."""
        if self._matrix is None:
            assert self.targets.classes is not None
            shares = as_shares(self.targets.classes, classes).nan_to_num(0.0)
            if self.objective.weights is not None:
                shares = shares * self.objective.weights
            if self.often is not None:
                shares = shares * torch.from_numpy(np.asarray(self.often, dtype=np.float32))[:, None]
            places, labels = shares.nonzero(as_tuple=True)
            self._matrix = self._xgboost.DMatrix(self.features[places].numpy(), label=labels.numpy(),
                                                 weight=shares[places, labels].numpy()), places.numpy()
        found: tuple[Any, NDArray[np.int64]] = self._matrix
        return found

    def gradient(self, row: Tensor, round: int, step: int = 0) -> tuple[Tensor, float]:
        """Trees have no gradient."""
        raise ConfigError("model.name=xgb has no gradients to exchange: set gossip.algorithm=trees")


def arrays(booster: Any, classes: int, depth: int) -> NDArray[np.float32]:
    """Return the trees of a booster's only round as (classes, ``numbers(depth)``) float32 (see ``models.xgb``).

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
            into[inner + place] = values[node]
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
