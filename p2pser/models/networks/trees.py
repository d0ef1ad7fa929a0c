"""Boosted trees as the parameters of a module: the network of the family ``xgb``.

A tree of depth d is complete: 2^d - 1 inner nodes, each with the number of a feature and a threshold, and 2^d leaves.
A clip whose feature is below the threshold goes left, as in XGBoost. Where XGBoost's tree has a leaf above the last
level, all leaves below it have its value. A tree set that is not grown yet is zeros, which add nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


def numbers(depth: int) -> int:
    """Return the count of numbers of a tree: features and thresholds of 2^depth - 1 nodes, then 2^depth leaves.

    >>> numbers(3)
    22
    """
    return (3 << depth) - 2


@dataclass(frozen=True)
class Growth:
    """The hyper-parameters of the family that ``training.boosting`` gives to XGBoost."""

    eta: float
    gain: float
    reg_lambda: float
    subsample: float
    columns: float


class TreeEnsemble(nn.Module):
    """(n, D) float32 to margins (n, classes), the sums of the leaves that a clip reaches; softmax gives probabilities.

    Its only parameter ``trees`` is (held, classes, ``numbers(depth)``): features, thresholds and leaves of each tree.

    Parameters
    ----------
    inputs : D, the length of a clip's features.
    classes : number of outputs.
    held : the largest number of tree sets.
    depth : levels of inner nodes of each tree.
    growth : hyper-parameters of the growth of trees.
    """

    empty = True
    """It begins without trees: nothing is drawn."""

    def __init__(self, inputs: int, classes: int, held: int, depth: int, growth: Growth) -> None:
        super().__init__()
        self.inputs, self.depth, self.growth = inputs, depth, growth
        size = (held, classes, numbers(depth))
        self.trees = nn.Parameter(torch.zeros(size), requires_grad=False)

    def forward(self, features: Tensor) -> Tensor:
        inner = 2**self.depth - 1
        trees = self.trees.detach()
        grown = trees[(trees[..., 2 * inner:] != 0).flatten(1).any(1)]
        held, classes, size = grown.shape
        flat = grown.reshape(held * classes, size)
        # Numbers from a file may have any value: clamped, they never index outside the features.
        feature = flat[:, :inner].nan_to_num().clamp(0, self.inputs - 1).long()
        # Not len(features): an exported (traced) model takes any number of clips.
        node = torch.zeros(features.shape[0], len(flat), dtype=torch.long)
        tree = torch.arange(len(flat)).expand_as(node)
        for _ in range(self.depth):
            value = features.gather(1, feature[tree, node])
            node = 2 * node + torch.where(value < flat[tree, inner + node], 1, 2)
        leaves = flat[tree, inner + node]
        # In float64, so that the sum over thousands of trees is exact to float32.
        return leaves.view(features.shape[0], held, classes).sum(1, dtype=torch.float64).to(torch.float32)
