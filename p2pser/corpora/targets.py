"""Targets beside the emotion: shares of listeners' votes, and arousal, valence and dominance."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import CorpusError
from p2pser.corpora.combined import scaled
from p2pser.corpora.emotions import DIMENSIONS
from p2pser.corpora.manifest import Clip, Corpus


def with_dimensions(corpus: Corpus, labels: Sequence[str], scale: tuple[float, float] | None = None) -> Corpus:
    """Return the corpus with the clips that have a dimension or one of these emotions, the dimensions from -1 to 1.

    scale: the lowest and highest value of the corpus's dimensions; default: the corpus's own. The other clips go to
    ``left_out``. Raises CorpusError where no clip has a dimension, a value is outside the scale, or the scale is empty.
    """
    low, high = scale or corpus.scale
    if not low < high:
        raise CorpusError(f"corpus.scale runs from {low:g} to {high:g}: give the lowest value first, then the highest")
    kept, dropped, known = [], [], 0
    for clip in corpus.clips:
        values = {name: getattr(clip, name) for name in DIMENSIONS if getattr(clip, name) is not None}
        for name, value in values.items():
            if not low <= value <= high:
                raise CorpusError(f"{clip.path} has {name} {value:g}, outside {low:g} to {high:g}: set corpus.scale "
                                  "to the lowest and highest value of the corpus's dimensions")
        known += bool(values)
        if values or clip.emotion in labels:
            kept.append(scaled(clip, (low, high)))
        else:
            dropped.append((clip.path, "it has no arousal, valence or dominance"))
    if not known:
        raise CorpusError(f"{corpus.name} has no clip with arousal, valence or dominance: take a corpus that has them "
                          "(iemocap, synthetic, or a manifest with these columns), or set training.task to classes")
    return dataclasses.replace(corpus, clips=tuple(kept), left_out=corpus.left_out + tuple(dropped), scale=(-1.0, 1.0))


def dimensions(clips: Sequence[Clip]) -> NDArray[np.float32]:
    """Return arousal, valence and dominance of clips, (n, 3) float32, NaN where unknown."""
    return np.array([[np.nan if getattr(clip, name) is None else getattr(clip, name) for name in DIMENSIONS]
                     for clip in clips], dtype=np.float32).reshape(-1, len(DIMENSIONS))


def shares(clips: Sequence[Clip], labels: Sequence[str]) -> NDArray[np.float32]:
    """Return the share of listeners who heard each emotion, (n, C) float32, each row summing to 1.

    A clip without votes has share 1 for its own emotion; the row of a clip whose emotion is not among the labels is
    NaN. Votes for emotions outside ``labels`` do not count. Unspecified votes (1 less the sum of all votes) are divided
    evenly over the labels without a vote.
    """
    table = np.full((len(clips), len(labels)), np.nan, dtype=np.float64)
    for row, clip in zip(table, clips):
        if clip.emotion not in labels:
            continue
        votes = np.array([clip.votes.get(label, 0.0) for label in labels])
        if not votes.sum():
            votes[labels.index(clip.emotion)] = 1.0
        else:
            unnamed = votes == 0
            votes[unnamed] = max(0.0, 1.0 - sum(clip.votes.values())) / max(1, int(unnamed.sum()))
        row[:] = votes / votes.sum()
    return table.astype(np.float32)
