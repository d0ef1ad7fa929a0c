"""The evaluation of one model, with all that belongs beside a UAR for it to mean something."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from p2pser.learning import metrics
from p2pser.learning.metrics import Interval, Predictions


@dataclass(frozen=True)
class Report:
    """One model on held-out clips.

    peers: how many peers trained it (None: unknown). speaker_overlap: how many test speakers it was trained
    on (None: unknown). uar_by_enrolment: UAR (a) where each test speaker's statistics come from so many of
    their clips.
    """

    corpus: str
    version: str
    synthetic: bool
    split: str
    labels: tuple[str, ...]
    predictions: Predictions
    normalise: str
    normalise_note: str = ""
    selection: str = "unknown"
    peers: int | None = None
    speaker_overlap: int | None = None
    uar_by_enrolment: dict[str, float] = field(default_factory=dict)
    left_out: int = 0
    notes: Sequence[str] = ()
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers, ready for JSON (finite or None)."""
        said = self.predictions
        table = metrics.confusion(said.targets, said.predicted, said.classes)
        by_fold = metrics.uar_by_fold(said)
        there = table.sum(1)
        return {
            "corpus": self.corpus, "version": self.version, "synthetic": self.synthetic, "split": self.split,
            "clips": len(said.targets), "left_out": self.left_out, "speakers": len(set(said.speakers)),
            "peers": self.peers, "speaker_overlap": self.speaker_overlap, "selection": self.selection,
            "normalise": self.normalise, "normalise_note": self.normalise_note,
            "uar": {
                "folds": metrics.uar_folds(said), "folds_sd": _sd(by_fold.values()),
                "folds_interval": _pair(metrics.bootstrap(said, "folds", seed=self.seed)),
                "pooled": metrics.uar_pooled(said),
                "pooled_interval": _pair(metrics.bootstrap(said, "pooled", seed=self.seed)),
                "by_fold": {str(fold): value for fold, value in by_fold.items()},
                "by_enrolment": dict(self.uar_by_enrolment),
            },
            "accuracy": metrics.accuracy(said), "macro_f1": metrics.macro_f1(table),
            "recall": {label: _finite(recall) for label, recall in zip(self.labels, metrics.recalls(table))},
            "chance": 1.0 / int((there > 0).sum()), "majority": float(there.max() / there.sum()),
            "labels": list(self.labels), "confusion": table.tolist(), "notes": list(self.notes),
        }

    def text(self) -> str:
        """Return the report for a person, some twenty lines."""
        d = self.to_dict()
        u = d["uar"]
        folds = len(u["by_fold"])
        overlap = "unknown" if self.speaker_overlap is None else str(self.speaker_overlap)
        spread = "" if u["folds_sd"] is None else f", sd {u['folds_sd']:.3f}"
        lines = [
            f"{self.corpus} {self.version}".rstrip() + (" (synthetic)" if self.synthetic else "")
            + f", {self.split}: {d['clips']} clips of {d['speakers']} "
            + ("speaker" if d["speakers"] == 1 else "speakers") + f" in {folds} "
            + ("fold" if folds == 1 else "folds") + (f", {self.left_out} left out" if self.left_out else ""),
            f"UAR (a) mean over folds   {u['folds']:.3f}{spread}{_interval(u['folds_interval'])}",
            f"UAR (b) pooled            {u['pooled']:.3f}{_interval(u['pooled_interval'])}",
            f"accuracy {d['accuracy']:.3f}   macro F1 {d['macro_f1']:.3f}   "
            f"chance {d['chance']:.3f}   majority {d['majority']:.3f}",
            "recall   " + "   ".join(f"{label} {'-' if value is None else format(value, '.2f')}"
                                     for label, value in d["recall"].items()),
            f"normalisation: {self.normalise}" + (f" ({self.normalise_note})" if self.normalise_note else ""),
        ]
        if self.uar_by_enrolment:
            lines.append("UAR (a) by the number of clips that give a speaker's statistics   " + "   ".join(
                f"{count}: {value:.3f}" for count, value in self.uar_by_enrolment.items()))
        lines += [f"peers that trained it: {'unknown' if self.peers is None else self.peers}   "
                  f"test speakers that it was trained on: {overlap}",
                  f"selection: {self.selection}", "confusion (rows true, columns predicted)"]
        width = max(max(map(len, self.labels)), len(str(len(self.predictions.targets)))) + 2
        lines.append(" " * width + "".join(f"{label:>{width}}" for label in self.labels))
        lines += [f"{label:<{width}}" + "".join(f"{count:>{width}}" for count in row)
                  for label, row in zip(self.labels, d["confusion"])]
        return "\n".join([*lines, *self.notes])


def _sd(values: Any) -> float | None:
    numbers = list(values)
    return float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _pair(interval: Interval) -> list[float] | None:
    return [interval.low, interval.high] if math.isfinite(interval.low) else None


def _interval(pair: list[float] | None) -> str:
    return "" if pair is None else f", 95 % over speakers {pair[0]:.3f} to {pair[1]:.3f}"
