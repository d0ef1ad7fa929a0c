"""Fairness as a choice in training: groups of clips (speakers, sexes or languages) whose loss is high weigh more.

Peers minimise the mean over their clips of phi(F_g) in place of F_g, the loss of a clip's group g at its peer, where
phi rises exponentially: phi'(F) = exp(strength (2 F / F0 - 1)), with F0 the loss of guessing. So a step is that of
before with each clip's gradient multiplied by its group's weight phi'(F_g): 1 for a group at half the loss of guessing,
e^strength where it is guessed, e^-strength where nothing is lost. Groups that lose more than guessing weigh no more, so
that a few clips with wrong labels do not lead the run.

Each weight follows from a peer's own clips and the row that it trains: nothing more is sent, and nothing is remembered.
Gossip does the rest, since peers with large weights take larger steps. This is distributionally robust optimisation
with a Kullback-Leibler penalty, in whose dual the exponential of a loss weighs its gradient (Issaid, Elgabli and Bennis
2022, "DR-DSGD: A Distributionally Robust Decentralized Learning Algorithm over Graphs", with peers as groups; Sagawa
et al. 2020, "Distributionally Robust Neural Networks for Group Shifts", raise groups' weights by exponentials too). A
group at several peers counts at each by its clips there: by Jensen's inequality the sum over peers bounds that of the
whole group from above.
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
    """Return the loss of equal scores of all classes, and of constant dimensions. loss: of the classes."""
    guessed = float(classes) if loss == "squared-hinge" else math.log(max(classes, 2))
    weight = training.dimension_weight if training.task == "both" else 1.0
    return guessed * (training.task != "dimensions") + weight * (training.task != "classes")


@dataclass(frozen=True)
class Fairness:
    """How a peer weighs its groups.

    Parameters
    ----------
    groups : (n,) int64, the group of each clip, from 0 on.
    strength : how steeply weights rise.
    guessing : the loss of guessing.
    """

    groups: Tensor
    strength: float
    guessing: float

    @classmethod
    def of(cls, training: TrainingSettings, examples: Examples, loss: str, classes: int) -> Fairness | None:
        """Return how a peer weighs its clips; None where ``training.fairness`` is none, or it has no clip.

        Raises CorpusError where groups are speakers, and a clip does not name its speaker.
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
        """Return how the clips at these places (k,) are weighed."""
        return replace(self, groups=self.groups[places])

    def weight(self, loss: float) -> float:
        """Return phi' of a group's loss."""
        return math.exp(self.strength * (2 * min(loss, self.guessing) / self.guessing - 1))

    def weights(self, outputs: Callable[[Tensor], Tensor], objective: Objective, targets: Targets, clips: Tensor
                ) -> Tensor:
        """Return the weight of each group (G,) float64, found on these of its clips; 1 of a group without one of them.

        Parameters
        ----------
        outputs : returns the network's for the clips at places (k,).
        objective : of the local work.
        targets : of all clips.
        clips : (k,) places.
        """
        found = torch.ones(int(self.groups.max()) + 1, dtype=torch.float64)
        for group in torch.unique(self.groups[clips]).tolist():
            own = clips[self.groups[clips] == group]
            found[group] = self.weight(objective(outputs(own), targets.at(own)).item())
        return found

    def loss(self, objective: Objective, outputs: Tensor, targets: Targets, clips: Tensor, weights: Tensor
             ) -> tuple[Tensor, float]:
        """Return the loss of a batch, in which each group counts by its weight, over the mean weight of its clips, and
        that mean. clips: (b,) places.
        """
        groups, loss = self.groups[clips], outputs.new_zeros(())
        mean = float(weights[groups].mean())
        for group in torch.unique(groups).tolist():
            own = (groups == group).nonzero()[:, 0]
            share = len(own) / len(groups) * float(weights[group]) / mean
            loss = loss + share * objective(outputs[own], targets.at(own))
        return loss, mean

