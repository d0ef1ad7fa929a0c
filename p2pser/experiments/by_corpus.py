"""Figures of several corpora in one run, a corpus at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2pser.evaluation import metrics
from p2pser.evaluation.metrics import Predictions
from p2pser.features.federation import Federation


def of_corpus(said: Predictions, corpus: str) -> Predictions | None:
    """Return what was said of one corpus's clips (``Corpus.relative`` begins with its name); None where of none."""
    places = np.array([place for place, path in enumerate(said.paths) if path.startswith(f"{corpus}/")], dtype=np.int64)
    return said.take(places) if len(places) else None


def uar_by_corpus(federation: Federation, consensus: Predictions | None, local_only: Sequence[Predictions] = (),
                  pooled: Sequence[Predictions] = ()) -> dict[str, dict[str, float | None]]:
    """Return for each of several corpora the UAR on its held-out clips: of the consensus model, of the peers that hold
    clips of it and trained alone (mean), of the pooled model. Empty for a single corpus.

    local_only: the models of the peers that hold clips, ascending.
    """
    holders = [i for i, examples in sorted(federation.train.items()) if len(examples)]
    found = {}
    for part in federation.corpus.parts:
        own = [one for i, one in zip(holders, local_only)
               if any(path.startswith(f"{part.name}/") for path in federation.train[i].paths)]
        found[part.name] = {"consensus": mean_uar([] if consensus is None else [consensus], part.name),
                            "local_only": mean_uar(own, part.name), "pooled": mean_uar(pooled, part.name)}
    return found


def mean_uar(models: Sequence[Predictions], corpus: str) -> float | None:
    """Return the mean over models of the UAR (b) on one corpus's clips; None where nobody was asked about any."""
    parts = [part for one in models if (part := of_corpus(one, corpus)) is not None]
    return float(np.mean([metrics.uar_pooled(part) for part in parts])) if parts else None
