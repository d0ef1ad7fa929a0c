"""What the I/O thread tells the training thread: frozen, in the order in which it happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from p2pser.wire.hello import Hello
from p2pser.wire.messages import Header, Progress


@dataclass(frozen=True)
class Up:
    """A neighbour has said HELLO and fits; ``progress`` is where it was then."""

    peer: int
    hello: Hello
    progress: Progress


@dataclass(frozen=True)
class Rejoined:
    """A neighbour that was lost, or never came, takes part from now on."""

    peer: int


@dataclass(frozen=True)
class Refused:
    """We refused a neighbour (``by_us``) or it refused us; ``reason`` is the sentence."""

    peer: int
    reason: str
    by_us: bool


@dataclass(frozen=True)
class Arrived:
    """A whole payload of a ROW message has come."""

    peer: int
    header: Header
    payload: memoryview


@dataclass(frozen=True)
class Progressed:
    """A neighbour is somewhere else than before."""

    peer: int
    progress: Progress


@dataclass(frozen=True)
class Suspected:
    """A neighbour has been silent for ``silence`` seconds."""

    peer: int
    silence: float


@dataclass(frozen=True)
class Recovered:
    """A suspected neighbour has spoken."""

    peer: int


@dataclass(frozen=True)
class Died:
    """A neighbour has been silent for too long: it is left out from now on."""

    peer: int
    silence: float


@dataclass(frozen=True)
class Left:
    """A neighbour has said BYE: ``done`` with the run, or ``interrupted``."""

    peer: int
    reason: str


@dataclass(frozen=True)
class Trouble:
    """Something came that the protocol forbids, or from somebody who is no neighbour; the run goes on."""

    peer: int | None
    reason: str


@dataclass(frozen=True)
class Ponged:
    """A neighbour has answered a PING (told to whoever only checks)."""

    peer: int


@dataclass(frozen=True)
class Paused:
    """This process did not run for ``seconds`` (stopped, suspended or starved)."""

    seconds: float


@dataclass(frozen=True)
class Failed:
    """The I/O thread ended with an error; nothing comes after it."""

    error: BaseException


@dataclass(frozen=True)
class Woken:
    """Somebody wants the training thread to look up (a signal)."""


Event: TypeAlias = (
    Up | Rejoined | Refused | Arrived | Progressed | Suspected | Recovered | Died | Left | Trouble | Ponged | Paused
    | Failed | Woken
)
