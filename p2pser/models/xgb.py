"""Boosted trees as a model: a table of tree sets, each one regression tree a class, in the parameters of a module.

XGBoost grows the trees (``p2pser.training.boosting``); here they are numbers in a row, like those of any other model.
So a model of trees is digested, checkpointed, written to disk and read, and answers, as networks do, and whoever only
predicts needs no XGBoost. What is received from a neighbour or read from a file is never given to XGBoost's parsers.

A tree of depth d is complete: 2^d - 1 inner nodes, each with the number of a feature and a threshold, and 2^d leaves.
A clip whose feature is below the threshold goes left, as in XGBoost. Where XGBoost's tree has a leaf above the last
level, all leaves below that place have its value. A place that holds no tree set yet holds zeros, which add nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from p2pser.base.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from p2pser.config import Config, ModelSettings

LARGEST = 1 << 25
"""Numbers of the largest ensemble: what peers, rounds, classes and depth may come to (128 MiB)."""

MOST_FEATURES = 1 << 16
"""A feature's number travels in two bytes."""

SETTINGS = ("trees_depth", "trees_eta", "trees_gain", "trees_lambda", "trees_subsample", "trees_columns",
            "trees_held")
"""The fields of ``model`` that count."""


def numbers(depth: int) -> int:
    """Return how many numbers a tree takes: features and thresholds of 2^depth - 1 nodes, then 2^depth leaves.

    >>> numbers(3)
    22
    """
    return (3 << depth) - 2


def sized(config: Config, peers: int) -> Config:
    """Return the settings with room for the tree sets that ``peers`` peers grow in all rounds; others as they are.

    Raises ConfigError where the run's task is none for trees, or no tree would be grown.
    """
    if config.model.name != "xgb":
        return config
    if not config.training.rounds:
        raise ConfigError("model.name=xgb grows its trees in the rounds, and training.rounds is 0: set 1 or more")
    if config.training.task != "classes":
        raise ConfigError(f"model.name=xgb tells classes apart, and training.task is {config.training.task}: set "
                          "training.task=classes, or take a network")
    model = config.model.model_copy(update={"trees_held": config.training.rounds * peers})
    return config.model_copy(update={"model": model})


class TreeEnsemble(nn.Module):
    """(n, D) float32 to margins (n, classes), the sums of the leaves that a clip comes to; softmax gives probabilities.

    Its one parameter ``trees`` is (held, classes, ``numbers(depth)``): features, thresholds and leaves of each tree.
    settings: what the trees are grown with.
    """

    empty = True
    """It begins without trees: nothing is drawn."""

    def __init__(self, inputs: int, classes: int, settings: ModelSettings) -> None:
        super().__init__()
        self.inputs, self.settings, self.depth = inputs, settings, settings.trees_depth
        size = (settings.trees_held, classes, numbers(self.depth))
        self.trees = nn.Parameter(torch.zeros(size), requires_grad=False)

    def forward(self, features: Tensor) -> Tensor:
        inner = 2**self.depth - 1
        trees = self.trees.detach()
        grown = trees[(trees[..., 2 * inner:] != 0).flatten(1).any(1)]
        held, classes, size = grown.shape
        flat = grown.reshape(held * classes, size)
        # Numbers from a file may be any: no place outside the features is read.
        feature = flat[:, :inner].nan_to_num().clamp(0, self.inputs - 1).long()
        # Not len(features): what is traced (ONNX) is to take any number of clips.
        node = torch.zeros(features.shape[0], len(flat), dtype=torch.long)
        tree = torch.arange(len(flat)).expand_as(node)
        for _ in range(self.depth):
            seen = features.gather(1, feature[tree, node])
            node = 2 * node + torch.where(seen < flat[tree, inner + node], 1, 2)
        leaves = flat[tree, inner + node]
        # In float64, so that the sum over thousands of trees keeps all that float32 shows.
        return leaves.view(features.shape[0], held, classes).sum(1, dtype=torch.float64).to(torch.float32)


def make(settings: ModelSettings, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return an ensemble without trees.

    Raises ModelError where the features are no vector, or too many, or the ensemble would be too large.
    """
    if len(shape) != 1 or shape[0] > MOST_FEATURES:
        raise ModelError(f"model 'xgb' takes functionals, one vector of up to {MOST_FEATURES} numbers a clip, "
                         f"not features of shape {shape}; set features.kind=functionals")
    size = settings.trees_held * classes * numbers(settings.trees_depth)
    if size > LARGEST:
        raise ModelError(f"an ensemble of {settings.trees_held} tree sets of depth {settings.trees_depth} takes {size} "
                         f"numbers, more than {LARGEST}: lower training.rounds or model.trees_depth")
    return TreeEnsemble(shape[0], classes, settings)
