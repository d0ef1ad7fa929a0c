"""The settings of links, timeouts and limits."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from p2pser.base.hosts import checked_host, dialled_host
from p2pser.base.signing import is_key
from p2pser.config.section import Section, UserPath

LONGEST = 30 * 86400
"""Longest time of any kind [s]."""


def _key(text: str) -> str:
    if not is_key(text):
        raise ValueError("must be 64 hexadecimal digits, as p2pser accept writes them")
    return text


class NetworkSettings(Section):
    """Links, timeouts and limits. Times in seconds."""

    host: Annotated[str, AfterValidator(dialled_host)] = Field(
        "127.0.0.1", description="host of peers without an address in the topology file")
    base_port: int = Field(5700, ge=1, le=65535, description="peer i without an address listens on base_port + i")
    start_timeout: float | None = Field(None, gt=0, le=LONGEST,
        description="longest wait for neighbours at the start [s]; none: no limit")
    refused_wait: float | None = Field(None, ge=0, le=LONGEST,
        description="longest wait for a refused neighbour to return corrected [s]; none: as for an absent neighbour")
    hub_wait: float | None = Field(None, ge=0, le=LONGEST,
        description="longest wait of a client for a lost hub, and of a hub for a lost client [s]; none: no limit")
    strikes: int = Field(5, ge=1, description="number of invalid messages after which their sender is banned from the "
                                              "run")
    round_timeout: float = Field(60.0, gt=0, le=LONGEST,
        description="time without progress of a neighbour after which an exchange ends without it [s]")
    ping_after: float = Field(1.0, gt=0, le=LONGEST, description="silence after which a neighbour is pinged [s]")
    suspect_after: float = Field(2.0, gt=0, le=LONGEST, description="silence after which a neighbour is SUSPECT [s]")
    dead_after: float = Field(8.0, gt=0, le=LONGEST,
        description="silence after which a neighbour is DEAD, and left out until it returns [s]")
    chunk_bytes: int = Field(524288, ge=1024, le=524288, description="largest payload of one message [B]")
    serve_after: float = Field(30.0, ge=0, le=LONGEST,
        description="how long a finished peer stays to hand its model to neighbours that have none [s]")
    metrics_port: int = Field(0, ge=0, le=65535,
        description="TCP port of this machine on which the peer serves /metrics for Prometheus and /health; 0: none")
    metrics_host: Annotated[str, AfterValidator(checked_host)] = Field("127.0.0.1",
        description="address at which /metrics and /health are served (*: all), to every program that reaches it")
    linger: float = Field(2.0, ge=0, le=LONGEST,
        description="longest time for sending the last messages at the end [s]")
    secret: UserPath | None = Field(None,
        description="file of the user's secret (32 bytes, mode 0600) from which keys are derived if the topology file "
                    "gives none; default: ~/.config/p2pser/secret")
    secret_key: UserPath | None = Field(None,
        description="file of this peer's CURVE secret key, if the topology file gives keys")
    author: Annotated[str, AfterValidator(_key)] | None = Field(None,
        description="public key of the required signer of the topology file (p2pser accept writes it); none: the "
                    "file need not be signed")
