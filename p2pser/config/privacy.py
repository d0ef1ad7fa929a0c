"""The settings of what neighbours can learn."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from p2pser.config.section import Section, shared

BANNED = ("work", "education")
"""Purposes for which the European Union bans the inference of emotions."""
EXCEPTED = ("medical", "safety")
"""The reasons for which the ban does not hold."""
LAW = ("the European AI Act (Regulation (EU) 2024/1689, article 5(1)(f)) has banned the inference of emotions at work "
       "and in education since February 2025, except for medical or safety reasons")
NAME_IT = "where the run has one of these, say so (--purpose medical or --purpose safety)"


class LimitSettings(Section):
    """What an audit allows: the largest values that its attacks may reach."""

    solvable: int = Field(0, ge=0, description="other peers whose rows or sums a peer can solve for exactly")
    sex: float = Field(0.6, ge=0, le=1, description="UAR of the sex of a given peer's speakers; chance is 0.5")
    speaker: float = Field(2.0, gt=0,
        description="share of peers of which a speaker is named rightly, in multiples of what guessing gives")
    membership: float = Field(0.55, ge=0, le=1,
        description="AUC of whether a given peer, rather than another, trained on a given recording; chance is 0.5")
    labels: float = Field(0.3, ge=0, le=1,
        description="correlation of the estimated with the true shares of emotions of a peer, both less the mean over "
                    "the peers; chance is 0")

PRIVATE = "secure-average"
"""The algorithm of the private mode."""


class PrivacySettings(Section):
    """What neighbours can learn of a peer's recordings."""

    mode: Literal["auto", "private", "gossip"] = Field("auto",
        description="private: no peer sees another's rows, only sums over all peers (secure-average); gossip: as "
                    "gossip.algorithm says; auto: private between sites, where the topology file gives keys and has at "
                    "least privacy.least peers, if no algorithm is asked for, else gossip")
    draws: Literal["secret", "seed"] = Field("secret",
        description="what keys a peer's draws of batches, dropout and augmentation: secret, a key of its own, so that "
                    "no other peer can repeat them; seed, the run's seed, which all peers know: then peers have the "
                    "simulator's bits (default of demo and launch)")
    purpose: str = shared("", "purpose of the run, one word such as research, medical or safety, which all peers must "
                              "name alike and the card holds; clips with other purposes are left out", max_length=40)
    least: int = shared(3, "fewest peers over which a secure sum is made: a sum of fewer would show too much", ge=3)
    limits: LimitSettings = LimitSettings()
    epsilon: float | None = shared(
        None, "budget: the largest privacy loss of a unit in the run, at delta, against neighbours; secure-average "
              "then adds noise to its sums, and ends training when the budget is spent; none: no noise", gt=0, le=16)
    unit: Literal["clip", "speaker", "site"] = shared(
        "speaker", "what the budget hides, as if it were not there: one clip, all clips of a speaker, or a site's")
    units: int | None = shared(
        None, "how many clips or speakers all peers have together, a number that everybody may know; not needed for "
              "sites", ge=2)
    delta: float | None = shared(
        None, "probability with which a unit's loss may be larger than epsilon; default 1 / units^2, the largest", gt=0,
        lt=1)
    norm: float = shared(0.5, "largest norm of what a unit adds to a sum: longer updates are scaled down to it", gt=0)
    sampling: float = shared(
        1.0, "probability with which a unit takes part in a round, drawn from a secret key", gt=0, le=1)
    colluding: int | None = shared(
        None, "peers that may put together what they know of the noise, a neighbour among them; default: a minority, "
              "(peers - 1) / 2", ge=1)
    noise: float | None = shared(
        None, "noise multiplier: the noise that the other peers add, in multiples of norm; default: what epsilon "
              "allows over all rounds", gt=0)

    @field_validator("purpose")
    @classmethod
    def _is_allowed(cls, purpose: str) -> str:
        if not re.fullmatch(r"([a-z][a-z0-9-]*)?", purpose):
            raise ValueError("must be one word of lower-case letters, digits and dashes")
        if purpose in BANNED:
            raise ValueError(f"must be no purpose that is banned: {LAW}; {NAME_IT}")
        return purpose
