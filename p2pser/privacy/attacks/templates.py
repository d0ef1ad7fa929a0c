"""Attacks that repeat a peer's local work with other recordings, and compare the updates, or train a model on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pser.features.federation import Examples
from p2pser.training.learner import Learner


def updates(learners: Sequence[Learner], start: Tensor, round: int) -> NDArray[np.float32]:
    """Return the update (S, D) that each learner's local steps of a round make from a row ``start`` (D,)."""
    made = []
    for learner in learners:
        row = start.clone()
        learner.train_(row, learner.memory(), round)
        made.append(row - start)
    return torch.stack(made).numpy()


def likeness(update: NDArray[np.float32], templates: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine (S,) of an update (D,) with each template (S, D), all less the templates' mean."""
    centre = templates.mean(axis=0)
    ours, theirs = update - centre, templates - centre
    scale = np.linalg.norm(theirs, axis=1) * np.linalg.norm(ours)
    cosines: NDArray[np.float64] = (theirs @ ours / np.maximum(scale, 1e-12)).astype(np.float64)
    return cosines


def shadow_model(update: NDArray[np.float32], templates: NDArray[np.float32], groups: Sequence[str],
                 centre: NDArray[np.float32]) -> dict[str, float]:
    """Return a score of each group for an update (D,), by a model trained on the templates (S, D) of these groups.

    The model is a ridge regression of whether a template is of the group, less the group's share, on the templates'
    directions from ``centre`` (D,). Its penalty is 1, the squared length of a direction.

    centre : the mean of all templates that the attacker has. Without the attacked peer's own speakers it would tell the
        attacker who they are: a mean of all peers' updates, less that of all others, is that of the peer.
    """
    ours, theirs = (update - centre)[None], templates - centre
    ours, theirs = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (ours, theirs))
    kernel = (theirs @ theirs.T).astype(np.float64) + np.eye(len(theirs))
    names = sorted(set(groups))
    targets = np.array([[group == name for name in names] for group in groups], dtype=np.float64)
    scores = (ours @ theirs.T) @ np.linalg.solve(kernel, targets - targets.mean(axis=0))
    return dict(zip(names, scores[0].tolist()))


def nearest_group(scores: Mapping[str, float], groups: Mapping[str, str], without: Collection[str] = ()) -> str:
    """Return the group whose speakers' templates are the most alike on average; empty where there is only one group.

    scores : likeness by speaker. groups : the group of each speaker. without : speakers that do not count.
    """
    names = sorted({groups[speaker] for speaker in scores if speaker in groups and speaker not in without})
    if len(names) < 2:
        return ""
    return max(names, key=lambda name: float(np.mean(
        [score for speaker, score in scores.items() if groups.get(speaker) == name and speaker not in without])))


def usable(speakers: Mapping[str, Examples]) -> dict[str, Examples]:
    """Return the speakers with clips that have a label."""
    labelled = {speaker: examples.take(np.flatnonzero(examples.labels >= 0)) for speaker, examples in speakers.items()}
    return {speaker: examples for speaker, examples in labelled.items() if len(examples)}
