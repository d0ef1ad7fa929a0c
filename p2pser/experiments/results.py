"""The results of a comparison's runs, read back from their plain form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from p2pser.evaluation.concordance import Ratings
from p2pser.evaluation.metrics import Predictions
from p2pser.experiments.differences import mean
from p2pser.experiments.jobs import Document, Job, Plan


def predictions(document: Document, key: str = "predicted") -> list[Predictions]:
    """Return each model's predictions of a result, with their logits under ``predicted`` where they were kept."""
    test = document["test"]
    logits = document.get("logits") if key == "predicted" else None
    return [Predictions.of(test["targets"], predicted, test["speakers"], len(document["labels"]),
                           logits=None if logits is None else logits[place], genders=test.get("genders", ()),
                           paths=test.get("paths", ())) for place, predicted in enumerate(document[key])]


def ratings(document: Document) -> list[Ratings]:
    """Return each model's ratings of a result; none where no dimension is learned."""
    rated = document.get("ratings")
    if rated is None:
        return []
    targets = [[math.nan if value is None else value for value in row] for row in rated["targets"]]
    return [Ratings.of(targets, predicted, rated["speakers"], paths=rated["paths"]) for predicted in rated["predicted"]]


def traffic(documents: Sequence[Document]) -> dict[str, Any]:
    """Return the means over runs of what only gossip has: consensus distance, bytes, messages and the end."""
    return {
        "consensus_distance": mean(document["history"][-1]["distance"] for document in documents)
        if documents[0]["history"] else None,
        "bytes_per_peer": mean(document["bytes_per_peer"] for document in documents),
        "bytes_final_per_peer": mean(document["bytes_final_per_peer"] for document in documents),
        "messages_per_peer": mean(document["messages_per_peer"] for document in documents),
        "final_exchanges": mean(document["final"]["exchanges"] for document in documents),
        "converged": all(document["final"]["converged"] for document in documents),
    }


@dataclass(frozen=True)
class Results:
    """All results of a plan.

    Parameters
    ----------
    plan : with the points of the grid that were chosen on inner folds.
    outer : the result of each run on an outer fold.
    inner : that of each run on an inner fold.
    """

    plan: Plan
    outer: Mapping[Job, Document]
    inner: Mapping[Job, Document]

    @property
    def first(self) -> Document:
        """Any result on an outer fold, for what all have in common."""
        return next(iter(self.outer.values()))

    def of(self, kind: str, scheme: str) -> list[Document]:
        """Return the results of a scheme, all folds of the first seed before those of the next."""
        return [self.outer[Job(kind, scheme, seed, fold)]
                for seed, fold in product(self.plan.seeds, self.plan.folds)]

    def models(self, kind: str, scheme: str, key: str = "predicted") -> list[list[Predictions]]:
        """Return, for each seed, each model's predictions of all folds; fold k is the k-th of the plan."""
        plan, models = self.plan, []
        for seed in plan.seeds:
            by_fold = [predictions(self.outer[Job(kind, scheme, seed, fold)], key) for fold in plan.folds]
            models.append([Predictions.concatenate(parts) for parts in zip(*by_fold)])
        return models

    def ratings(self, kind: str, scheme: str) -> list[Ratings]:
        """Return each model's ratings of all folds, for each seed; empty where no dimension is learned."""
        plan, models = self.plan, []
        for seed in plan.seeds:
            by_fold = [ratings(self.outer[Job(kind, scheme, seed, fold)]) for fold in plan.folds]
            models += [Ratings.concatenate(parts) for parts in zip(*by_fold)]
        return models

    def inner_models(self, kind: str, scheme: str, fold: int) -> list[Predictions]:
        """Return the predictions on the inner folds of a fold by all models with the chosen settings."""
        plan = self.plan
        value = plan.chosen[kind, scheme, fold]
        documents = [self.inner[Job(kind, scheme, plan.seeds[0], fold, (number, plan.inner), value)]
                     for number in range(plan.inner)]
        return [model for document in documents for model in predictions(document)]

    def chosen(self, kind: str, scheme: str) -> list[str]:
        """Return the point of the grid that each fold's runs took; empty where nothing was chosen."""
        if not self.plan.schemes[scheme].choices:
            return []
        return [self.plan.chosen[kind, scheme, fold] for fold in self.plan.folds]
