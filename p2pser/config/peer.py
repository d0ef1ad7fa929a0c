"""The settings of a peer's process: its files, and the model from which it starts."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from p2pser.config.section import Section, UserPath


class PeerSettings(Section):
    """The files of a peer's process, and the model from which it starts."""

    out: UserPath = Field(Path("runs"), description="folder of runs; a peer writes OUT/NAME/peer-ID/")
    start: UserPath | None = Field(
        None, description="model directory with the run's initial parameters, equal at all peers (--from); outputs are "
                          "matched by the emotion's name; default: parameters drawn from the seed")
    checkpoint_every: int = Field(5, ge=1, description="rounds between two checkpoints")
    evaluate_every: int = Field(1, ge=1, description="rounds between two evaluations on the held-out speakers")
    alone: bool = Field(False,
        description="at the end train a second model on this peer's clips alone, as long as the first, to measure by "
                    "the UAR on the held-out speakers what the network has gained")
    watts: float | None = Field(None, gt=0, le=1000,
        description="power of one busy processor core, with its share of the machine, from which the card's energy is "
                    "estimated if it cannot be measured [W]")
    log_bytes: int = Field(8 << 20, ge=4096,
        description="size at which metrics.jsonl and events.jsonl are set aside, as *.older.jsonl, and begun anew [B]")
