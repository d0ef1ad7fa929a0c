"""A model's outputs for clips whose targets are known, and their quality in short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from p2pser.base.frames import finite
from p2pser.corpora.emotions import DIMENSIONS
from p2pser.evaluation import metrics
from p2pser.evaluation.concordance import Ratings
from p2pser.evaluation.metrics import Predictions
from p2pser.features.federation import Examples

Ccc: TypeAlias = "dict[str, float | None]"
"""The CCC of each dimension by its name, None where it is not known."""


@dataclass(frozen=True)
class Outputs:
    """Predictions of emotions, None where none is learned or known, and ratings of dimensions, None likewise."""

    predictions: Predictions | None
    ratings: Ratings | None

    @classmethod
    def of(cls, outputs: NDArray[np.float32], examples: Examples, task: str, classes: int) -> Outputs:
        """Return the predictions and ratings of a network's outputs.

        Parameters
        ----------
        outputs : (n, ·), logits of classes, then dimensions, as ``task`` says.
        examples : the n clips.
        task : as ``training.task``.
        classes : number of classes.
        """
        predictions = ratings = None
        known = np.flatnonzero(examples.labels >= 0)
        if task != "dimensions" and len(known):
            raw, there = outputs[known, :classes], examples if len(known) == len(examples) else examples.take(known)
            predictions = Predictions.of(there.labels, raw.argmax(axis=1), there.speakers, classes, logits=raw,
                                         genders=there.genders, paths=there.paths)
        if task != "classes" and examples.dimensions is not None:
            ratings = Ratings.of(examples.dimensions, outputs[:, -len(DIMENSIONS):], examples.speakers,
                                 paths=examples.paths)
        return cls(predictions, ratings)

    @property
    def uar(self) -> float | None:
        """The UAR over all predictions pooled; None without any."""
        return None if self.predictions is None else metrics.uar_pooled(self.predictions)

    @property
    def ccc(self) -> Ccc | None:
        """The CCC of each dimension, None where it is not known; None where no dimension is learned."""
        if self.ratings is None:
            return None
        return {name: finite(value) for name, value in self.ratings.ccc().items()}


def ccc_of_several(each: Sequence[Ccc | None]) -> tuple[Ccc | None, Ccc | None]:
    """Return the mean CCC of each dimension over several models, and the CCC of the model whose mean is lowest.

    None and None where none rates dimensions.
    """
    rated = [ccc for ccc in each if ccc is not None]
    if not rated:
        return None, None
    known = {name: [ccc[name] for ccc in rated if ccc[name] is not None] for name in DIMENSIONS}
    mean = {name: float(np.mean(values)) if values else None for name, values in known.items()}  # type: ignore[arg-type]
    return mean, min(rated, key=lambda ccc: in_short(ccc) or -1.0)


def in_short(ccc: Mapping[str, float | None] | None) -> float | None:
    """Return the mean over the dimensions that are known; None where none is."""
    known = [value for value in (ccc or {}).values() if value is not None]
    return float(np.mean(known)) if known else None
