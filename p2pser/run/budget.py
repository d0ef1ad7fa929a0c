"""The budget of a run (``privacy.epsilon``): a check of its units against the peers' clips, and the spent budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from p2pser.base.errors import ConfigError
from p2pser.base.wording import peer_list
from p2pser.config import Config
from p2pser.corpora.manifest import UNKNOWN
from p2pser.corpora.spread import AUTO
from p2pser.features.federation import Examples, Federation
from p2pser.training.local_work import units

NEXT_TO_NOTHING = 10.0
"""Smallest epsilon at which a budget protects almost nothing: the odds of a guess grow by a factor of up to e^epsilon.
"""


def check_units(config: Config, federation: Federation, examples: Mapping[int, Examples]) -> tuple[str, ...]:
    """Return warnings about the budget of a run over these peers' training clips; none without a budget.

    Raises ConfigError where features or clips tie units together, or there are more units than the settings say.
    """
    privacy = config.privacy
    if privacy.epsilon is None:
        return ()
    unit = privacy.unit
    if federation.normalise == "global":
        raise ConfigError("privacy.epsilon does not count the statistics of all peers' features, which "
                          "features.normalise=global asks for: set features.normalise=public, speaker or none")
    if federation.normalise in ("speaker", AUTO) and config.augment.unenrolled:
        raise ConfigError("a budget (privacy.epsilon) does not cover the statistics of all peers' clips that "
                          "augment.unenrolled asks for: leave it out")
    if federation.normalise == "speaker" and unit == "clip":
        raise ConfigError("privacy.unit=clip hides single clips, and features.normalise=speaker mixes each clip into "
                          "all others of its speaker: set features.normalise=public or none, or privacy.unit=speaker")
    speakers = {peer: set(own.speakers) for peer, own in examples.items()}
    if unit == "speaker":
        _check_speakers(federation, speakers)
    counts = {peer: int(np.unique(units(own, unit)).size) for peer, own in examples.items()}
    if privacy.units is not None and unit != "site" and sum(counts.values()) > privacy.units:
        who = f"peer {next(iter(counts))} has" if len(counts) == 1 else f"the {len(counts)} peers have"
        raise ConfigError(f"{who} {sum(counts.values())} {unit}s, more than privacy.units={privacy.units} states for "
                          "all peers together: set it to their number")
    warnings = []
    single = [peer for peer, own in speakers.items() if len(own) == 1]
    if unit == "clip" and single:
        most = max(counts[peer] for peer in single)
        warnings.append(f"epsilon does not protect the speakers of {peer_list(single)}: each has one speaker, "
                        f"whose up to {most} clips together may lose {most} times epsilon; set privacy.unit=speaker")
    if privacy.epsilon >= NEXT_TO_NOTHING:
        warnings.append(f"privacy.epsilon={privacy.epsilon:g} protects almost nothing: an attacker's knowledge may "
                        f"raise the odds of a guess about a {unit} e^{privacy.epsilon:g}-fold")
    return tuple(warnings)


def _check_speakers(federation: Federation, speakers: Mapping[int, set[str]]) -> None:
    if any({"", UNKNOWN} & own for own in speakers.values()):
        raise ConfigError(f"privacy.unit=speaker hides all clips of a speaker, and {federation.corpus.name} does not "
                          "name the speakers of all clips: set privacy.unit=site")
    clips = federation.corpus.clips
    holders = Counter(name for own in federation.held for name in {clips[index].speaker for index in own})
    divided = sorted(name for name, peers in holders.items() if peers > 1)
    if divided:
        raise ConfigError(f"privacy.unit=speaker hides a speaker's clips at one peer, and those of {len(divided)} "
                          f"speakers ({divided[0]}) are divided over several: set corpus.partition=speaker")


def in_words(report: Mapping[str, Any]) -> str:
    """Return the privacy loss of a unit in a run (``Algorithm.budget_report``) as a sentence."""
    neighbour, model = (("no bound" if value is None else f"epsilon {value:.2f}")
                        for value in (report["epsilon_neighbour"], report["epsilon_model"]))
    return (f"each {report['unit']} (of {report['units']}), at delta {report['delta']:.1e}, after {report['rounds']} "
            f"rounds: {neighbour} for neighbours (up to {report['colluding']} together), {model} for others who have "
            "the model" + ("; simulated: the noise follows from the seed" if report.get("simulated") else ""))
