"""The evaluation report of one model: its figures, and how they came about (split, normalisation, overlap)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pser.base.wording import counted
from p2pser.evaluation.calibration import by_others, ece, probabilities, scaled
from p2pser.evaluation.concordance import Ratings
from p2pser.evaluation.coverage import by_other_speakers, coverage, thresholds
from p2pser.evaluation.coverage import lines as coverage_lines
from p2pser.evaluation.listing import rated_rows, rows, write
from p2pser.evaluation.metrics import Predictions, uar_folds
from p2pser.evaluation.summary import FEW_SPEAKERS, concordances, dimension_lines, group_lines, summarise
from p2pser.models.heard import Heard, nearest
from p2pser.models.sets import Sets


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
    by_enrolment : the predictions of emotions by the number of clips that give each test speaker's statistics; the
        largest number is all of them. A model that does not scale by speaker has those of 0 alone.
    heard : figures by that number which its card holds, or that were fitted on these clips.
    unlike : whether the clips are unlike those of the training: without enrolment their common statistics serve then.
    left_out : number of clips whose features could not be computed.
    temperature : what logits are divided by; None: none was fitted.
    fitted_here : whether the temperature was fitted on these clips; then each speaker's logits are scaled by the
        temperature of the others.
    ratings : of dimensions; None where the model knows none. Predictions, ratings or both are there.
    sets : what the card's prediction sets follow from, or what was calibrated on these clips; (): nothing was.
    distances : (n,) how far the clips with an emotion are from the training's; None: not known.
    groups : names to the group of each clip with an emotion, for the coverage of sets.
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
    by_enrolment: Mapping[int, Predictions] = field(default_factory=dict)
    heard: tuple[Heard, ...] = ()
    left_out: int = 0
    temperature: float | None = None
    fitted_here: bool = False
    ratings: Ratings | None = None
    sets: tuple[Sets, ...] = ()
    distances: NDArray[np.float64] | None = None
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    seed: int = 0
    unlike: bool = False

    @property
    def scaled(self) -> Predictions | None:
        """The predictions with their logits scaled by the temperature; None where there is none."""
        if self.temperature is None or self.predictions is None or self.predictions.logits is None:
            return None
        return by_others(self.predictions) if self.fitted_here else scaled(self.predictions, self.temperature)

    def coverage(self) -> dict[str, Any]:
        """Return the figures of sets of emotions (``evaluation.coverage``) without clips of the speaker, as ``predict``
        answers, and with all, by their number; empty where the model has no sets.
        """
        counts = {min(self.by_enrolment), max(self.by_enrolment)} if self.by_enrolment else set()
        return {str(count): figures for count in sorted(counts) if (figures := self._coverage(count)) is not None}

    def _coverage(self, count: int) -> dict[str, Any] | None:
        predictions = self.by_enrolment[count]
        sets = max((each for each in self.sets if each.heard <= count), key=lambda each: each.heard, default=None)
        if sets is None or predictions.logits is None:
            return None
        if self.fitted_here:
            predictions, least = by_other_speakers(predictions)
        else:
            known = nearest(self.heard, count)
            predictions = scaled(predictions, known.temperature if known is not None else self.temperature or 1.0)
            least = thresholds(sets, len(predictions.targets))
        unlike = None if sets.far is None or self.distances is None else self.distances > sets.far
        return coverage(predictions, least, unlike=unlike, groups=self.groups)

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
        figures: dict[str, Any] = {}
        if self.predictions is not None:
            figures = summarise([self.predictions], self.labels, seed=self.seed,
                                scaled=None if self.scaled is None else [self.scaled])
            figures["by_enrolment"] = self.curve()
            figures["uar"]["by_enrolment"] = {each["clips"]: each["uar"] for each in figures["by_enrolment"]}
            figures["sets"] = self.coverage()
        if self.ratings is not None:
            clips, speakers = len(self.ratings.targets), len(set(self.ratings.speakers))
            figures = {"clips": clips, "speakers": speakers, **figures,
                       "ccc": concordances([self.ratings], seed=self.seed)}
        return {
            "corpus": self.corpus, "version": self.version, "synthetic": self.synthetic, "split": self.split,
            "clips": figures.pop("clips"), "left_out": self.left_out, "speakers": figures.pop("speakers"),
            "peers": self.peers, "speaker_overlap": self.speaker_overlap, "selection": self.selection,
            "unlike_training": self.unlike,
            "normalise": self.normalise, "normalise_note": self.normalise_note, "temperature": self.temperature,
            **figures, "notes": list(self.notes),
        }

    def curve(self) -> list[dict[str, Any]]:
        """Return UAR (a), calibration error and mean confidence by the number of clips that give a speaker's
        statistics, as ``predict`` answers with that many.
        """
        if self.fitted_here:
            return [each.to_dict() for each in self.heard]
        rows = []
        for clips, predictions in sorted(self.by_enrolment.items()):
            known = nearest(self.heard, clips)
            temperature = known.temperature if known is not None else self.temperature or 1.0
            if self.unlike:
                temperature = max(temperature, 1.0)
            figures: dict[str, Any] = {"clips": clips, "temperature": temperature, "uar": uar_folds(predictions),
                                       "ece": None, "confidence": None}
            if predictions.logits is not None:
                chances = probabilities(scaled(predictions, temperature))
                figures |= {"ece": ece(chances, predictions.targets), "confidence": float(chances.max(axis=1).mean())}
            rows.append(figures)
        return rows

    def text(self) -> str:
        """Return the report as text, about twenty lines."""
        d = self.to_dict()
        folds = len(set((self.predictions or self.ratings).folds.tolist()))  # type: ignore[union-attr]
        overlap = "unknown" if self.speaker_overlap is None else str(self.speaker_overlap)
        lines = [
            f"{self.corpus} {self.version}".rstrip() + (" (synthetic)" if self.synthetic else "")
            + f", {self.split}: {counted(d['clips'], 'clip')} of {counted(d['speakers'], 'speaker')} in "
            + counted(folds, "fold")
            + (f", {self.left_out} left out" if self.left_out else ""),
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
            lines.append(f"intervals over {counted(d['speakers'], 'speaker')} say little: test on "
                         f"{FEW_SPEAKERS} or more")
        if len(d["by_enrolment"]) > 1 or self.unlike:
            lines[0:0] = _curve_lines(d["by_enrolment"], self.unlike)
        return [*lines, *group_lines(d), *_set_lines(d["sets"])]

    def _confusion(self, d: Mapping[str, Any]) -> list[str]:
        width = max(max(map(len, self.labels)), len(str(d["clips"]))) + 2
        return [
            "confusion (rows true, columns predicted)",
            " " * width + "".join(f"{label:>{width}}" for label in self.labels),
            *(f"{label:<{width}}" + "".join(f"{count:>{width}}" for count in row)
              for label, row in zip(self.labels, d["confusion"])),
        ]


def _set_lines(sets: Mapping[str, Any]) -> Iterator[str]:
    """Yield the coverage of sets by the number of clips heard of a speaker."""
    for count, figures in sets.items():
        if len(sets) > 1:
            yield f"with {counted(int(count), 'clip')} of the speaker for the statistics:"
        yield from coverage_lines(figures)


def _curve_lines(curve: Sequence[Mapping[str, Any]], unlike: bool) -> list[str]:
    """Return what an application gets, first without recordings of the speaker, then with some, then with all."""
    strange = curve[0]
    lines = [f"without recordings of the speaker, as predict answers: UAR (a) {strange['uar']:.3f}"]
    if strange["ece"] is not None:
        lines[0] += f", ECE {strange['ece']:.3f} (mean confidence {strange['confidence']:.2f})"
    if unlike:
        lines.append("these clips are unlike those of the training (another microphone, room or language): without "
                     "enrolment their common statistics scale the features")
    if len(curve) == 1:
        return [*lines, "with the training statistics:"]
    lines.append("UAR (a) by the number of clips that give a speaker's statistics   " + "   ".join(
        f"{each['clips']}: {each['uar']:.3f}" for each in curve))
    if strange["ece"] is not None:
        lines.append("ECE by that number   " + "   ".join(f"{each['clips']}: {each['ece']:.3f}" for each in curve))
    return [*lines, f"scaled as in the run's test, by all clips of each speaker, {curve[-1]['clips']} at the median:"]


def _interval(pair: list[float] | None) -> str:
    return "" if pair is None else f", 95 % over speakers {pair[0]:.3f} to {pair[1]:.3f}"
