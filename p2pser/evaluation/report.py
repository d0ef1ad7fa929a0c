"""The evaluation report of one model: its figures, and how they came about (split, normalisation, overlap)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2pser.evaluation.calibration import by_others, scaled
from p2pser.evaluation.concordance import Ratings
from p2pser.evaluation.listing import rated_rows, rows, write
from p2pser.evaluation.metrics import Predictions
from p2pser.evaluation.summary import FEW_SPEAKERS, concordances, dimension_lines, group_lines, summarise


@dataclass(frozen=True)
class Report:
    """One model on held-out clips.

    Parameters
    ----------
    corpus, version, synthetic : the corpus of the clips.
    split : name of the split.
    labels : the emotions.
    predictions : of emotions; None where the model knows none.
    normalise, normalise_note : how features were normalised.
    selection : how the model was selected.
    peers : number of peers that trained it; None: unknown.
    speaker_overlap : number of test speakers that it was trained on; None: unknown.
    uar_by_enrolment : UAR (a) by the number of clips that give each test speaker's statistics.
    left_out : number of clips whose features could not be computed.
    temperature : what logits are divided by; None: none was fitted.
    fitted_here : whether the temperature was fitted on these clips; then each speaker's logits are scaled by the
        temperature of the others.
    ratings : of dimensions; None where the model knows none. Predictions, ratings or both are there.
    notes : further lines of the report.
    seed : keys the resampling.
    """

    corpus: str
    version: str
    synthetic: bool
    split: str
    labels: tuple[str, ...]
    predictions: Predictions | None
    normalise: str
    normalise_note: str = ""
    selection: str = "unknown"
    peers: int | None = None
    speaker_overlap: int | None = None
    uar_by_enrolment: dict[str, float] = field(default_factory=dict)
    left_out: int = 0
    temperature: float | None = None
    fitted_here: bool = False
    ratings: Ratings | None = None
    notes: Sequence[str] = ()
    seed: int = 0

    @property
    def scaled(self) -> Predictions | None:
        """The predictions with their logits scaled by the temperature; None where there is none."""
        if self.temperature is None or self.predictions is None or self.predictions.logits is None:
            return None
        return by_others(self.predictions) if self.fitted_here else scaled(self.predictions, self.temperature)

    def write_csv(self, path: Path) -> int:
        """Write a row per clip (``evaluation.listing``) and return their number: emotions with their probabilities,
        or the dimensions of a model without emotions. Raises P2PSERError.
        """
        if self.predictions is not None:
            write(path, rows(self.scaled or self.predictions, self.labels, corpus=self.corpus))
            return len(self.predictions.targets)
        if self.ratings is None:
            return 0
        write(path, rated_rows(self.ratings, corpus=self.corpus))
        return len(self.ratings.targets)

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers, ready for JSON (finite or None): ``uar`` and related figures only where emotions are
        known, ``ccc`` only where dimensions are.
        """
        found: dict[str, Any] = {}
        if self.predictions is not None:
            found = summarise([self.predictions], self.labels, seed=self.seed,
                              scaled=None if self.scaled is None else [self.scaled])
            found["uar"]["by_enrolment"] = dict(self.uar_by_enrolment)
        if self.ratings is not None:
            clips, speakers = len(self.ratings.targets), len(set(self.ratings.speakers))
            found = {"clips": clips, "speakers": speakers, **found, "ccc": concordances([self.ratings], seed=self.seed)}
        return {
            "corpus": self.corpus, "version": self.version, "synthetic": self.synthetic, "split": self.split,
            "clips": found.pop("clips"), "left_out": self.left_out, "speakers": found.pop("speakers"),
            "peers": self.peers, "speaker_overlap": self.speaker_overlap, "selection": self.selection,
            "normalise": self.normalise, "normalise_note": self.normalise_note, "temperature": self.temperature,
            **found, "notes": list(self.notes),
        }

    def text(self) -> str:
        """Return the report as text, about twenty lines."""
        d = self.to_dict()
        folds = len(set((self.predictions or self.ratings).folds.tolist()))  # type: ignore[union-attr]
        overlap = "unknown" if self.speaker_overlap is None else str(self.speaker_overlap)
        lines = [
            f"{self.corpus} {self.version}".rstrip() + (" (synthetic)" if self.synthetic else "")
            + f", {self.split}: {d['clips']} clips of {d['speakers']} "
            + ("speaker" if d["speakers"] == 1 else "speakers") + f" in {folds} "
            + ("fold" if folds == 1 else "folds") + (f", {self.left_out} left out" if self.left_out else ""),
        ]
        if "uar" in d:
            lines += self._emotions(d)
        if "ccc" in d:
            lines += dimension_lines(d["ccc"])
        lines += [
            f"normalisation: {self.normalise}" + (f" ({self.normalise_note})" if self.normalise_note else ""),
            f"peers that trained it: {'unknown' if self.peers is None else self.peers}   "
            f"test speakers that it was trained on: {overlap}",
            f"selection: {self.selection}",
        ]
        if self.fitted_here:
            lines.append(f"temperature {self.temperature:.3f}, fitted on these clips; figures after scaling use, for "
                         "each speaker, the temperature fitted on the others")
        if "uar" in d:
            lines += self._confusion(d)
        return "\n".join([*lines, *self.notes])

    def _emotions(self, d: Mapping[str, Any]) -> list[str]:
        u = d["uar"]
        spread = "" if u["folds_sd"] is None else f", sd {u['folds_sd']:.3f}"
        lines = [
            f"UAR (a) mean over folds   {u['folds']:.3f}{spread}{_interval(u['folds_interval'])}",
            f"UAR (b) pooled            {u['pooled']:.3f}{_interval(u['pooled_interval'])}",
            f"accuracy {d['accuracy']:.3f}   macro F1 {d['macro_f1']:.3f}   "
            f"chance {d['chance']:.3f}   majority {d['majority']:.3f}",
            "recall   " + "   ".join(f"{label} {'-' if value is None else format(value, '.2f')}"
                                     for label, value in d["recall"].items()),
        ]
        if d["speakers"] < FEW_SPEAKERS:
            lines.append(f"intervals over {d['speakers']} speaker{'s' * (d['speakers'] > 1)} say little: test on "
                         f"{FEW_SPEAKERS} or more")
        if self.uar_by_enrolment:
            lines.append("UAR (a) by the number of clips that give a speaker's statistics   " + "   ".join(
                f"{count}: {value:.3f}" for count, value in self.uar_by_enrolment.items()))
        return lines + group_lines(d)

    def _confusion(self, d: Mapping[str, Any]) -> list[str]:
        width = max(max(map(len, self.labels)), len(str(d["clips"]))) + 2
        return [
            "confusion (rows true, columns predicted)",
            " " * width + "".join(f"{label:>{width}}" for label in self.labels),
            *(f"{label:<{width}}" + "".join(f"{count:>{width}}" for count in row)
              for label, row in zip(self.labels, d["confusion"])),
        ]


def _interval(pair: list[float] | None) -> str:
    return "" if pair is None else f", 95 % over speakers {pair[0]:.3f} to {pair[1]:.3f}"
