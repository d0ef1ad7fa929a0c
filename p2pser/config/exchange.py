"""The settings of what peers exchange, how, and of what each of them writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from p2pser.config.section import Section, shared


class GossipSettings(Section):
    """How peers mix."""

    algorithm: str = shared("dfedavg", "gossip algorithm")
    parameters: dict[str, float | int | str | bool] = shared(
        {}, "the algorithm's own hyper-parameters, by name (p2pser algorithms lists them); the rest by default")
    weighting: Literal["uniform", "clips"] = shared(
        "uniform", "uniform: every peer counts the same (Metropolis-Hastings); clips: in proportion to its clips")
    share: tuple[str, ...] = shared(("all",),
        "which parameters are mixed, the others never leave their peer: all; body: all but the head (the last layer); "
        "upper: all but the first layer; or patterns of their names, such as hidden.0.*,head.*", min_length=1)
    consensus_tolerance: float = shared(1e-7, "relative difference between any two peers at the end", gt=1e-14, lt=1)
    max_consensus_exchanges: int = shared(2000, "exchanges after which the final consensus is given up", ge=1)

    @field_validator("share", mode="before")
    @classmethod
    def _patterns(cls, share: Any) -> Any:
        """Read one word, or patterns with commas between them."""
        return tuple(part.strip() for part in share.split(",")) if isinstance(share, str) else share


class NetworkSettings(Section):
    """Links, waiting and limits. Times in seconds."""

    host: str = Field("127.0.0.1", description="host of peers without an address in the topology file")
    base_port: int = Field(5700, ge=1, le=65535, description="peer i without an address listens on base_port + i")
    start_timeout: float | None = Field(None, gt=0,
        description="how long to wait for neighbours at the start [s]; none: for ever")
    refused_wait: float = Field(10.0, ge=0,
        description="how long to wait for a refused neighbour to come back corrected [s]")
    round_timeout: float = Field(60.0, gt=0,
        description="an exchange goes on without a neighbour that reports no progress for so long [s]")
    ping_after: float = Field(1.0, gt=0, description="silence after which a neighbour is pinged [s]")
    suspect_after: float = Field(2.0, gt=0, description="silence after which a neighbour is SUSPECT [s]")
    dead_after: float = Field(8.0, gt=0, description="silence after which a neighbour is DEAD and left out [s]")
    chunk_bytes: int = Field(65536, ge=1024, le=65536, description="largest payload of one message [B]")
    linger: float = Field(2.0, ge=0, description="how long the last messages may take to leave at the end [s]")
    secret: Path | None = Field(None,
        description="file of the user's secret (32 bytes, mode 0600) that keys are derived from where the "
                    "topology file gives none; default ~/.config/p2pser/secret")
    secret_key: Path | None = Field(None,
        description="file of this peer's CURVE secret key, where the topology file gives keys")


class PeerSettings(Section):
    """What a peer process writes, and where."""

    out: Path = Field(Path("runs"), description="folder of runs; a peer writes OUT/NAME/peer-ID/")
    checkpoint_every: int = Field(5, ge=1, description="rounds between two checkpoints")
    evaluate_every: int = Field(1, ge=1, description="rounds between two evaluations on the held-out speakers")
