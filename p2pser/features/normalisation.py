"""Scaling of features by the statistics of all peers' training clips or of each speaker's own clips.

Features are vectors ``(n, F)`` or matrices ``(n, F, frames)``; statistics are those of each feature (vectors) or band
(matrices). Or they are vectors with an attachment, ``(n, F, 1, 2 + more)``: column 0 is the vector, column 1 is
divided by the standard deviations, and the others stay as they are. A constant feature becomes 0, and scaled features
are cut at ``LIMIT`` standard deviations. The statistics of all peers come from sums, which gossip averages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pser.base import seeding
from p2pser.base.errors import CorpusError

LIMIT = 8.0
"""Largest absolute value of a scaled feature [standard deviations]: an outlier of a test speaker stays an outlier, but
a feature that hardly varied in training cannot outweigh all others."""

CONSTANT = 1e-6
"""A feature whose standard deviation is below this share of its absolute mean is constant."""

PRIOR_MEAN, PRIOR_VARIANCE = 1.0, 5.0
"""Weight of the training mean and variance beside a speaker's own [clips]."""

SHARE = 0.15
"""Share of a vector's variance that lies between speakers; the rest lies between the clips of one. At the median of
the functionals .10 on EMO-DB and .20 on RAVDESS."""

SLACK = 2.0
"""How many times as far as expected the mean of a speaker's clips may lie from the training's, and be taken for chance:
features depend on each other, and so do the clips of one emotion."""

ATTACHED = 4
"""Dimensions of an array of vectors with an attachment."""

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each feature or band, ``(F,)`` float64, over ``count`` clips or frames.

    ``heard``: how many clips of one speaker are in them; 0 for those of the training. ``unlike``: the ``departure`` of
    these clips from the training.
    """

    count: float
    mean: Float64
    std: Float64
    heard: int = 0
    unlike: float = 1.0

    def apply(self, features: NDArray[np.floating]) -> Float32:
        """Return ``(x - mean) / std``, float32, cut at ``LIMIT``; 0 where std is 0.

        ``features`` is ``(n, F)`` or ``(n, F, frames)``. Raises CorpusError where F differs.
        """
        bands = features.shape[1] if features.ndim > 1 else -1
        if bands != self.mean.size:
            raise CorpusError(f"statistics of {self.mean.size} features do not fit features of shape "
                              f"{features.shape[1:]}: they were made with other feature settings")
        scale = np.divide(1.0, self.std, out=np.zeros_like(self.std), where=self.std > 0)
        if features.ndim == ATTACHED:
            out = features.astype(np.float32)
            out[:, :, 0, 0] = self.apply(features[:, :, 0, 0])
            out[:, :, 0, 1] = features[:, :, 0, 1] * scale
            return out
        trailing = (slice(None),) + (None,) * (features.ndim - 2)
        scaled = (features - self.mean[trailing]) * scale[trailing]
        return np.clip(scaled, -LIMIT, LIMIT).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return the statistics as plain numbers and lists, for ``from_dict``; nothing is rounded."""
        return {"count": self.count, "mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Statistics:
        """Return the statistics of ``to_dict``; raises CorpusError where the document does not hold them."""
        try:
            count = float(document["count"])
            mean = np.asarray(document["mean"], dtype=np.float64)
            std = np.asarray(document["std"], dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise CorpusError(f"feature statistics need count, mean and std as numbers ({error!r})") from None
        fits = mean.ndim == 1 and mean.shape == std.shape and np.isfinite([*mean, *std, count]).all()
        if not fits or count < 0 or (std < 0).any():
            raise CorpusError("feature statistics need a finite mean and standard deviation for each feature")
        return cls(count, mean, std)


def sums(features: NDArray[np.floating]) -> Float64:
    """Return the row ``[count, sum of x, sum of x²]``, float64, of length 1 + 2 F.

    ``features`` is ``(n, F)``, ``(n, F, frames)`` or ``(n, F, 1, 2 + more)``; n may be 0. count is n, or n times
    frames. ``from_sums`` of the sum or of the average of all peers' rows gives the statistics of their pooled features.
    """
    values = vectors(features)
    over = (0, *range(2, values.ndim))
    count = values.shape[0] * int(np.prod(values.shape[2:], dtype=np.int64))
    return np.concatenate([[float(count)], values.sum(axis=over), (values * values).sum(axis=over)])


def from_sums(row: NDArray[np.floating]) -> Statistics:
    """Return the statistics of a row of ``sums``, or of a positive multiple of one, such as the average over peers.

    Raises CorpusError where the row's count is 0 or its length is even.
    """
    values = np.asarray(row, dtype=np.float64)
    if values.ndim != 1 or values.size % 2 == 0 or not np.isfinite(values).all() or values[0] <= 0:
        raise CorpusError("feature statistics need a finite row [count, sums, sums of squares] that counts "
                          "at least one clip")
    half = values.size // 2
    mean = values[1 : 1 + half] / values[0]
    variance = values[1 + half :] / values[0] - mean * mean
    std = np.sqrt(np.maximum(variance, 0))
    return Statistics(float(values[0]), mean, np.where(std > CONSTANT * np.abs(mean), std, 0.0))


def statistics(features: NDArray[np.floating]) -> Statistics:
    """Return the statistics of features, as for ``sums``, in two passes; n is at least 1."""
    values = vectors(features)
    if values.shape[0] == 0:
        raise CorpusError("feature statistics need at least one clip")
    over = (0, *range(2, values.ndim))
    mean, std = values.mean(axis=over), values.std(axis=over)
    count = values.shape[0] * int(np.prod(values.shape[2:], dtype=np.int64))
    return Statistics(float(count), mean, np.where(std > CONSTANT * np.abs(mean), std, 0.0))


def vectors(features: NDArray[np.floating]) -> Float64:
    """Return the features that statistics are of: of vectors with an attachment the vectors alone."""
    return np.asarray(features[:, :, 0, 0] if np.ndim(features) == ATTACHED else features, dtype=np.float64)


def steadied(features: NDArray[np.floating], training: Statistics | None, prior: float = PRIOR_MEAN) -> Statistics:
    """Return a speaker's statistics from k of their clips, features (k, …), combined with the training statistics.

    Few clips underestimate a speaker's variance (one clip has none), so the training mean and variance count as
    ``prior`` and ``PRIOR_VARIANCE`` further clips (the posterior mean under conjugate priors). None: the speaker's own
    alone.
    """
    own, k = statistics(features), len(features)
    if training is None:
        return replace(own, heard=k)
    mean = (k * own.mean + prior * training.mean) / (k + prior)
    variance = (k * own.std**2 + PRIOR_VARIANCE * training.std**2) / (k + PRIOR_VARIANCE)
    return Statistics(own.count, mean, np.sqrt(variance), k)


def known_by(features: NDArray[np.floating], training: Statistics | None) -> Statistics:
    """Return the statistics of a speaker who is known by k clips only, features (k, …): as ``steadied``, but the
    training mean weighs as much as speakers are alike.

    The mean of few clips depends on what was said and felt in them. So the training mean counts as many clips as the
    spread of speakers suggests (empirical Bayes): with ``SHARE`` s and spread g, (1 - s) / (s g). g is 1 for speakers
    like those of the training and grows with the distance of their clips: another microphone, room or language shifts
    all features by more than a speaker does, and then few clips say more than the training. Matrices: as ``steadied``.
    """
    if training is None or vectors(features).ndim != 2:
        return steadied(features, training)
    k = len(features)
    unlike = departure(statistics(features), training, k)
    spread = max(1.0, (unlike * expected(k) / SLACK - (1 - SHARE) / k) / SHARE)
    return replace(steadied(features, training, (1 - SHARE) / (SHARE * spread)), unlike=unlike)


def expected(clips: int) -> float:
    """Return the squared distance, in training variances, of the mean of so many clips of one new speaker."""
    return SHARE + (1 - SHARE) / clips


def departure(own: Statistics, training: Statistics, clips: int) -> float:
    """Return how far the mean of ``clips`` clips lies from the training's: the mean square over features that vary,
    divided by what is ``expected`` of one new speaker. About 1 for recordings like those of the training.
    """
    varies = training.std > 0
    if not varies.any():
        return 1.0
    steps = np.clip((own.mean[varies] - training.mean[varies]) / training.std[varies], -LIMIT, LIMIT)
    return float(np.mean(steps * steps)) / expected(clips)


def by_speaker(features: NDArray[np.floating], speakers: Sequence[str], training: Statistics | None,
               of: NDArray[np.floating] | None = None) -> Float32:
    """Return the features, each clip scaled by the ``steadied`` statistics of its own speaker's clips among these.

    Transductive: a speaker's result depends on which of their clips are given.

    Parameters
    ----------
    features : (n, …).
    speakers : of the n clips. CorpusError where there is not one for each.
    training : steadies the statistics. Without it a lone vector becomes 0.
    of : other clips of the same speakers in the same order, whose statistics are used instead (the originals of varied
        copies).
    """
    of = features if of is None else of
    if len(speakers) != len(features):
        raise CorpusError(f"{len(features)} clips and {len(speakers)} speakers do not fit together")
    out = np.zeros(features.shape, dtype=np.float32)
    named = np.asarray(speakers, dtype=str)
    for speaker in np.unique(named):
        theirs = named == speaker
        out[theirs] = steadied(of[theirs], training).apply(features[theirs])
    return out


def enrolled(features: NDArray[np.floating], speakers: Sequence[str], clips: int | None, training: Statistics | None,
             seed: int) -> Float32:
    """Return the features, each clip scaled by what some clips of its speaker say (``known_by``).

    Parameters
    ----------
    features : (n, …).
    speakers : of the n clips.
    clips : number of a speaker's clips, drawn by (seed, speaker), that give the statistics; None: all of them; 0: none,
        so the training statistics serve.
    training : the training statistics, which steady the speaker's; None: there are none.
    seed : keys the draws.

    Raises CorpusError where the training statistics are to serve and there are none.
    """
    if clips == 0:
        if training is None:
            raise CorpusError("there are no training statistics; enrol the speaker with recordings")
        return training.apply(features)
    names = np.asarray(speakers, dtype=str)
    scaled = np.empty(features.shape, dtype=np.float32)
    for speaker in np.unique(names):
        own = np.flatnonzero(names == speaker)
        chosen = seeding.generator(seed, f"enrolment {speaker}").permutation(own)[:clips]
        scaled[own] = known_by(features[chosen], training).apply(features[own])
    return scaled
