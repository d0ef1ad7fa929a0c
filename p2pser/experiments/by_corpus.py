"""The UAR on each of several corpora in one run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2pser.evaluation import metrics
from p2pser.evaluation.metrics import Predictions
from p2pser.features.federation import Federation


def of_corpus(predictions: Predictions, corpus: str) -> Predictions | None:
    """Return the predictions of one corpus's clips, whose paths begin with its name; None where there are none."""
    places = [place for place, path in enumerate(predictions.paths) if path.startswith(f"{corpus}/")]
    return predictions.take(np.array(places, dtype=np.int64)) if places else None


def uar_by_corpus(federation: Federation, consensus: Predictions | None, local_only: Sequence[Predictions] = (),
                  pooled: Sequence[Predictions] = ()) -> dict[str, dict[str, float | None]]:
    """Return for each of several corpora the UAR on its held-out clips: of the consensus model, of the peers that hold
    clips of it and trained alone (mean), of the pooled model. Empty for a single corpus.

    local_only: the models of the peers that hold clips, ascending.
    """
    holders = [i for i, examples in sorted(federation.train.items()) if len(examples)]
    uar = {}
    for part in federation.corpus.parts:
        own = [model for i, model in zip(holders, local_only)
               if any(path.startswith(f"{part.name}/") for path in federation.train[i].paths)]
        uar[part.name] = {"consensus": mean_uar([] if consensus is None else [consensus], part.name),
                          "local_only": mean_uar(own, part.name), "pooled": mean_uar(pooled, part.name)}
    return uar


def mean_uar(models: Sequence[Predictions], corpus: str) -> float | None:
    """Return the mean over models of the UAR (b) on one corpus's clips; None where no model predicted any."""
    parts = [part for model in models if (part := of_corpus(model, corpus)) is not None]
    return float(np.mean([metrics.uar_pooled(part) for part in parts])) if parts else None
