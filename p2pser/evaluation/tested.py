"""How a model did on the held-out clips, by group of speakers: what its card says. It names no speaker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from p2pser.base.wording import counted, span
from p2pser.evaluation import fairness, metrics
from p2pser.evaluation.metrics import Predictions
from p2pser.evaluation.summary import FEW_CLIPS, FEW_SPEAKERS, pair
from p2pser.features.federation import Federation


def by_group(federation: Federation, predictions: Predictions | None) -> dict[str, Any] | None:
    """Return the figures by sex, language and corpus, and the lowest of a speaker, with sentences; None where no clip
    with an emotion is held out.

    predictions : of the held-out clips that have an emotion, in their order.
    """
    test = federation.test
    if test is None or predictions is None:
        return None
    there = np.flatnonzero(test.labels >= 0)
    groups: dict[str, Sequence[str]] = {"sex": predictions.genders}
    if test.languages:
        groups["language"] = [test.languages[place] for place in there]
    if parts := federation.corpus.parts:
        groups["corpus"] = [next((part.name for part in parts if path.startswith(f"{part.name}/")), "")
                            for path in predictions.paths]
    whole = _figures(predictions, "all")
    by = {name: figures for name, values in groups.items() if (figures := _of_groups(predictions, values, name))}
    lowest = None
    if whole["speakers"] > 1:
        scores = fairness.by_speaker([predictions])
        who = min(scores, key=lambda name: scores[name])
        lowest = {"uar": scores[who], "clips": predictions.speakers.count(who)}
    facts = {"corpus": federation.corpus.name, "split": federation.split.name,
             "speaker_overlap": federation.speaker_overlap, **whole, "by": by, "lowest_speaker": lowest}
    return {**facts, "in_words": _in_words(facts)}


def _figures(predictions: Predictions, purpose: str) -> dict[str, Any]:
    """Return UAR (b), its 95 % interval over speakers, None where they are too few, and the numbers of both."""
    speakers = len(set(predictions.speakers))
    interval = None
    if speakers >= FEW_SPEAKERS:
        draws = metrics.resampled(predictions, "pooled", purpose=f"bootstrap {purpose}")
        interval = pair(metrics.interval(draws))
    return {"uar": metrics.uar_pooled(predictions), "interval": interval, "speakers": speakers,
            "clips": len(predictions.targets)}


def _of_groups(predictions: Predictions, values: Sequence[str], name: str) -> dict[str, Any]:
    """Return the figures of each group that is known."""
    names = np.asarray(values)
    known = sorted(set(values) - {""})
    return {group: _figures(predictions.take(np.flatnonzero(names == group)), f"{name} {group}") for group in known}


def _in_words(facts: Mapping[str, Any]) -> list[str]:
    overlap = facts["speaker_overlap"]
    lines = [f"tested on {facts['corpus']}, {facts['split']}: UAR (b) {_group_in_words(facts)}"
             + (f"; {overlap} of these speakers were trained on" if overlap else "")]
    lines += [f"by {name}   " + "   ".join(f"{group} {_group_in_words(own)}" for group, own in groups.items())
              for name, groups in facts["by"].items()]
    if (lowest := facts["lowest_speaker"]) is not None:
        few = f", too few to judge by (fewer than {FEW_CLIPS})" * (lowest["clips"] < FEW_CLIPS)
        lines.append(f"lowest of a speaker   {lowest['uar']:.3f} ({counted(lowest['clips'], 'clip')}{few})")
    return lines


def _group_in_words(facts: Mapping[str, Any]) -> str:
    few = f": too few for an interval (fewer than {FEW_SPEAKERS})" * (facts["speakers"] < FEW_SPEAKERS)
    return (f"{facts['uar']:.3f}{span(facts['interval'])} ({counted(facts['speakers'], 'speaker')}{few}, "
            f"{counted(facts['clips'], 'clip')})")
