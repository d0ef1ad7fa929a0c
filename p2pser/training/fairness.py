"""Fairness as a choice in training: groups of clips (speakers, sexes or languages) whose loss is high weigh more.

Peers minimise the mean over their clips of phi(F_g) in place of F_g, the loss of a clip's group g at its peer, where
phi rises exponentially: phi'(F) = exp(strength (2 F / F0 - 1)), with F0 the loss of guessing. So each clip's gradient
is multiplied by its group's weight phi'(F_g): 1 for a group at half the loss of guessing, e^strength at the loss of
guessing, e^-strength at loss 0. Groups with a larger loss than guessing have no larger weight, so that a few clips with
wrong labels do not dominate the training.

Each weight follows from a peer's own clips and the row that it trains: no further message is sent, and no state is
kept. Peers with large weights take larger steps, which gossip spreads. This is distributionally robust optimisation
with a Kullback-Leibler penalty, in whose dual the exponential of a loss weighs its gradient (Issaid, Elgabli and Bennis
2022, "DR-DSGD: A Distributionally Robust Decentralized Learning Algorithm over Graphs", with peers as groups; Sagawa
et al. 2020, "Distributionally Robust Neural Networks for Group Shifts", raise groups' weights by exponentials too). A
group at several peers has a loss at each, of its clips there: by Jensen's inequality the sum over peers bounds that of
the whole group from above.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from p2pser.base.errors import CorpusError
from p2pser.config import TrainingSettings
from p2pser.corpora.manifest import UNKNOWN
from p2pser.training.losses import Objective, Targets

if TYPE_CHECKING:
    from p2pser.features.federation import Examples


def loss_of_guessing(training: TrainingSettings, loss: str, classes: int) -> float:
    """Return the loss of equal scores of all classes, and of constant dimensions.

    training : the settings of the local work. loss : of the classes. classes : C.
    """
    guessed = float(classes) if loss == "squared-hinge" else math.log(max(classes, 2))
    weight = training.dimension_weight if training.task == "both" else 1.0
    return guessed * (training.task != "dimensions") + weight * (training.task != "classes")


@dataclass(frozen=True)
class Fairness:
    """The weighting of a peer's groups.

    Parameters
    ----------
    groups : (n,) int64, the group of each clip, from 0 on.
    strength : the logarithm of the weight at the loss of guessing.
    guessing : the loss of guessing.
    """

    groups: Tensor
    strength: float
    guessing: float

    @classmethod
    def of(cls, training: TrainingSettings, examples: Examples, loss: str, classes: int) -> Fairness | None:
        """Return the weighting of a peer's clips; None where ``training.fairness`` is none, or it has no clip.

        Parameters
        ----------
        training : the settings of the local work.
        examples : the peer's clips.
        loss, classes : the loss of the classes, and their number.

        Raises
        ------
        CorpusError : where groups are speakers, and a clip does not name its speaker.
        """
        if training.fairness == "none" or not len(examples):
            return None
        names = {"speaker": examples.speakers, "sex": examples.genders,
                 "language": examples.languages}[training.fairness] or ("",) * len(examples)
        if training.fairness == "speaker" and {"", UNKNOWN} & set(names):
            raise CorpusError("training.fairness=speaker weighs speakers, and not all clips name theirs: name them, or "
                              "set training.fairness=none")
        groups = torch.from_numpy(np.unique(np.array(names, dtype=str), return_inverse=True)[1].astype(np.int64))
        return cls(groups, training.fairness_strength, loss_of_guessing(training, loss, classes))

    def at(self, places: Tensor) -> Fairness:
        """Return the weighting of the clips at these places (k,)."""
        return replace(self, groups=self.groups[places])

    def weight(self, loss: float) -> float:
        """Return phi' of a group's loss."""
        return math.exp(self.strength * (2 * min(loss, self.guessing) / self.guessing - 1))

    def weights(self, outputs: Callable[[Tensor], Tensor], objective: Objective, targets: Targets, clips: Tensor
                ) -> Tensor:
        """Return the weight of each group (G,) float64, by its loss on ``clips``; 1 for a group without such a clip.

        Parameters
        ----------
        outputs : returns the network's outputs for the clips at places (k,).
        objective : of the local work.
        targets : of all clips.
        clips : (k,) places.
        """
        weights = torch.ones(int(self.groups.max()) + 1, dtype=torch.float64)
        for group in torch.unique(self.groups[clips]).tolist():
            own = clips[self.groups[clips] == group]
            weights[group] = self.weight(objective(outputs(own), targets.at(own)).item())
        return weights

    def loss(self, objective: Objective, outputs: Tensor, targets: Targets, clips: Tensor, weights: Tensor
             ) -> tuple[Tensor, float]:
        """Return the loss of a batch with each group's weight divided by the mean weight of the clips, and that mean.

        Parameters
        ----------
        objective : of the local work.
        outputs, targets : of the batch's b clips.
        clips : (b,), their places.
        weights : (G,), as from ``weights``.
        """
        groups, loss = self.groups[clips], outputs.new_zeros(())
        mean = float(weights[groups].mean())
        for group in torch.unique(groups).tolist():
            own = (groups == group).nonzero()[:, 0]
            share = len(own) / len(groups) * float(weights[group]) / mean
            loss = loss + share * objective(outputs[own], targets.at(own))
        return loss, mean

