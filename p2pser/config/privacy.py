"""The settings of privacy."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from p2pser.config.section import Section, shared

BANNED = ("work", "education")
"""Purposes for which the European Union bans the inference of emotions."""
EXCEPTED = ("medical", "safety")
"""The purposes that are exempt from the ban."""
LAW = ("the European AI Act (Regulation (EU) 2024/1689, article 5(1)(f)) has banned the inference of emotions at work "
       "and in education since February 2025, except for medical or safety reasons")
NAME_IT = "if the run has one of these, name it (--purpose medical or --purpose safety)"


class LimitSettings(Section):
    """The limits of an audit: the largest values that its attacks may reach."""

    solvable: int = Field(0, ge=0, description="other peers whose rows or sums a peer can solve for exactly")
    sex: float = Field(0.6, ge=0, le=1, description="UAR of the sex of a given peer's speakers; chance is 0.5")
    speaker: float = Field(2.0, gt=0,
        description="share of peers of which a speaker is identified correctly, in multiples of the share by guessing")
    membership: float = Field(0.55, ge=0, le=1,
        description="AUC of the decision which of two peers trained on a given recording; chance is 0.5")
    labels: float = Field(0.3, ge=0, le=1,
        description="correlation of the estimated with the true shares of emotions of a peer, both without the mean "
                    "over the peers; chance is 0")

PRIVATE = "secure-average"
"""The algorithm of the private mode."""


class PrivacySettings(Section):
    """Protection of a peer's recordings against other peers."""

    mode: Literal["auto", "private", "gossip"] = Field("auto",
        description="private: peers see only sums over all peers, never rows of another peer (secure-average); "
                    "gossip: gossip.algorithm; auto: private between sites, that is if the topology file gives keys "
                    "and has at least privacy.least peers, and no algorithm is set; else gossip")
    draws: Literal["secret", "seed"] = Field("secret",
        description="key of a peer's random draws of batches, dropout and augmentation. secret: a secret key of the "
                    "peer, so that no other peer can repeat them; seed: the run's seed, which all peers know: then "
                    "peers have the simulator's bits (default of demo and launch)")
    record: int = Field(0, ge=0, le=10**6,
        description="number of rounds of which a peer keeps in its folder the messages that it receives, for p2pser "
                    "audit; it then trains on half of each speaker's clips, since the audit's attackers hold the other "
                    "half; 0: no messages are kept")
    purpose: str = shared("", "purpose of the run, one word such as research, medical or safety, equal at all peers "
                              "and stored in the card; clips with other purposes are left out", max_length=40)
    least: int = shared(3, "fewest peers over which a secure sum is made: a sum over fewer would reveal too much", ge=3)
    limits: LimitSettings = LimitSettings()
    epsilon: float | None = shared(
        None, "budget: the largest privacy loss of a unit in the run, at delta, against neighbours; secure-average "
              "then adds noise to its sums, and ends training when the budget is spent; none: no noise", gt=0, le=16)
    unit: Literal["clip", "speaker", "site"] = shared(
        "speaker", "unit of the budget, whose presence it hides: one clip, all clips of a speaker, or all of a site")
    units: int | None = shared(
        None, "number of clips or speakers of all peers together, which need not be secret; not needed for sites", ge=2)
    delta: float | None = shared(
        None, "probability that a unit's loss is larger than epsilon; default: 1 / units^2, the largest allowed", gt=0,
        lt=1)
    norm: float = shared(0.5, "largest norm of a unit's contribution to a sum: longer ones are scaled down to it", gt=0)
    sampling: float = shared(
        1.0, "probability with which a unit takes part in a round, drawn from a secret key", gt=0, le=1)
    colluding: int | None = shared(
        None, "number of peers, a neighbour among them, that may share what they know of the noise; default: a "
              "minority, (peers - 1) / 2", ge=1)
    noise: float | None = shared(
        None, "noise multiplier: the noise that the other peers add, in multiples of norm; default: the smallest with "
              "which epsilon lasts for all rounds", gt=0)

    @field_validator("purpose")
    @classmethod
    def _is_allowed(cls, purpose: str) -> str:
        if not re.fullmatch(r"([a-z][a-z0-9-]*)?", purpose):
            raise ValueError("must be one word of lower-case letters, digits and dashes")
        if purpose in BANNED:
            raise ValueError(f"is a banned purpose: {LAW}; {NAME_IT}")
        return purpose
