"""Attacks on the sums of features with which the peers find common statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pser.features.federation import Examples

PITCH = "voice.f0.mean"
"""The feature that holds a clip's mean pitch [semitones above 27.5 Hz]."""


@dataclass(frozen=True)
class Threshold:
    """Between the mean pitch of men and of women, [semitones above 27.5 Hz]; ``at``: the feature's place."""

    at: int
    value: float

    def sex(self, mean: NDArray[np.float64]) -> str:
        """Return the sex that a mean feature vector (D,) speaks for."""
        return "f" if mean[self.at] > self.value else "m"


def threshold(names: list[str], speakers: Mapping[str, Examples], sexes: Mapping[str, str]) -> Threshold | None:
    """Return the threshold half-way between the sexes of other speakers; None without pitch or without both sexes."""
    if PITCH not in names:
        return None
    at = names.index(PITCH)
    means = {sex: [float(examples.features[:, at].mean()) for speaker, examples in speakers.items()
                   if sexes.get(speaker) == sex] for sex in ("f", "m")}
    if not (means["f"] and means["m"]):
        return None
    return Threshold(at, float(np.mean(means["f"]) + np.mean(means["m"])) / 2)


def nearest(mean: NDArray[np.float64], speakers: Mapping[str, Examples]) -> str:
    """Return the speaker whose other recordings have the mean most like ``mean`` (D,), in units of their spread."""
    names = sorted(speakers)
    means = np.stack([speakers[name].features.mean(axis=0, dtype=np.float64) for name in names])
    spread = np.mean([speakers[name].features.std(axis=0, dtype=np.float64) for name in names], axis=0) + 1e-9
    distances = np.square((means - mean) / spread).mean(axis=1)
    return names[int(np.argmin(distances))]
