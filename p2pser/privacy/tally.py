"""Counts what each attack got right for each peer, over several runs, and makes findings of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from p2pser.config.privacy import LimitSettings
from p2pser.privacy.attacks.shares import agreement
from p2pser.privacy.findings import Attack, Finding, bootstrapped, mean_and_interval, recall_of_groups, wilson

Float64 = NDArray[np.float64]
T = TypeVar("T")


@dataclass
class Tally:
    """What attacks guessed, by attack and target; a target is named by its speakers, which are the same in every run.

    groups : (the target's group, whether it was guessed). speakers : (whether a speaker of the target was named, what
    guessing gives). members : (AUC, true positives at 1 % false ones) of a given peer. run_members : the
    same for a recording that any peer trained on. shares : (estimated, true), each (C,). inputs : for each clip the
    largest cosine between its features and the inputs that the attack read, as (the mean over the clips trained on, the
    mean over others).
    """

    groups: dict[Attack, dict[str, list[tuple[str, bool]]]] = field(default_factory=dict)
    speakers: dict[Attack, dict[str, list[tuple[bool, float]]]] = field(default_factory=dict)
    members: dict[Attack, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)
    run_members: dict[Attack, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)
    shares: dict[Attack, dict[str, list[tuple[Float64, Float64]]]] = field(default_factory=dict)
    inputs: dict[Attack, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)
    exact: list[Finding] = field(default_factory=list)
    """Findings that are no estimates."""

    def findings(self, limits: LimitSettings) -> list[Finding]:
        """Return what was found, against these limits."""
        findings = list(self.exact)
        for attack, groups in self.groups.items():
            findings += _groups(attack, groups, limits.sex if attack.about == "sex" else None)
        for attack, speakers in self.speakers.items():
            findings.append(_speakers(attack, speakers, limits.speaker))
        for attack, members in self.members.items():
            findings += _members(attack, members, limits.membership)
        for attack, members in self.run_members.items():
            findings += _members(attack, members, None)
        for attack, inputs in self.inputs.items():
            means = np.array([np.mean(outcomes, axis=0) for outcomes in inputs.values()])
            findings.append(attack.finding("cosine", *mean_and_interval(means[:, 0]), float(means[:, 1].mean()),
                                           len(means)))
        for attack, shares in self.shares.items():
            findings += _shares(attack, shares, limits.labels)
        return findings


def note(where: dict[Attack, dict[str, list[T]]], attack: Attack, target: str, outcome: T) -> None:
    """Add an outcome of an attack on a target."""
    where.setdefault(attack, {}).setdefault(target, []).append(outcome)


def _groups(attack: Attack, targets: Mapping[str, list[tuple[str, bool]]], limit: float | None) -> list[Finding]:
    truth = [outcomes[0][0] for outcomes in targets.values()]
    names = set(truth)
    if len(names) < 2:
        return []
    right = np.array([np.mean([guessed for _, guessed in outcomes]) for outcomes in targets.values()])
    return [attack.finding("UAR", *recall_of_groups(truth, right), 1 / len(names), len(targets), limit)]


def _speakers(attack: Attack, targets: Mapping[str, list[tuple[bool, float]]], limit: float) -> Finding:
    right = float(np.mean([np.mean([named for named, _ in outcomes]) for outcomes in targets.values()]))
    chance = float(np.mean([outcomes[0][1] for outcomes in targets.values()]))
    return attack.finding("top-1", right, *wilson(right, len(targets)), chance, len(targets),
                          min(1.0, limit * chance))


def _members(attack: Attack, targets: Mapping[str, list[tuple[float, float]]], limit: float | None) -> list[Finding]:
    means = np.array([np.mean(outcomes, axis=0) for outcomes in targets.values()])
    return [attack.finding("AUC", *mean_and_interval(means[:, 0]), 0.5, len(targets), limit),
            attack.finding("TPR at 1 % FPR", *mean_and_interval(means[:, 1]), 0.01, len(targets))]


def _shares(attack: Attack, targets: Mapping[str, list[tuple[Float64, Float64]]], limit: float) -> list[Finding]:
    runs = min(map(len, targets.values()))
    several = [(np.stack([outcomes[run][0] for outcomes in targets.values()]),
                np.stack([outcomes[run][1] for outcomes in targets.values()])) for run in range(runs)]

    def together(counts: Float64) -> float:
        return float(np.mean([np.nan_to_num(agreement(*pair, counts)) for pair in several]))

    everyone = np.ones(len(targets))
    main = np.array([np.mean([ours.argmax() == theirs.argmax() for ours, theirs in outcomes])
                     for outcomes in targets.values()])
    commonest = np.mean([np.bincount(true.argmax(axis=1)).max() / len(true) for _, true in several])
    value = float(main.mean())
    return [attack.finding("correlation", together(everyone), *bootstrapped(together, len(targets)), 0.0,
                           len(targets), limit),
            attack.finding("main emotion", value, *wilson(value, len(targets)), float(commonest), len(targets))]
