"""The settings of what neighbours can learn."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from p2pser.config.section import Section


class PrivacySettings(Section):
    """What neighbours can learn of a peer's recordings."""

    draws: Literal["secret", "seed"] = Field("secret",
        description="what keys a peer's draws of batches, dropout and augmentation: secret, a key of its own, so that "
                    "nobody can repeat them; seed, the run's seed, which all peers know: then peers have the "
                    "simulator's bits (default of demo and launch)")
