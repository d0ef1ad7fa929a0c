"""Events from the I/O thread to the training thread: immutable, in the order in which they happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from p2pser.network.states import Cause, State
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Header, Progress


@dataclass(frozen=True)
class Up:
    """A new process of a neighbour has sent a HELLO that fits ours; ``progress`` is its progress at that time."""

    peer: int
    hello: Hello
    progress: Progress


@dataclass(frozen=True)
class Agreed:
    """A neighbour has sent a further HELLO, over another connection or because it now knows the emotions of the run."""

    peer: int
    hello: Hello


@dataclass(frozen=True)
class Changed:
    """A neighbour's state has changed; ``reason`` is a sentence, ``silence`` how long it has been silent [s]."""

    peer: int
    before: State
    after: State
    cause: Cause
    reason: str = ""
    silence: float = 0.0


@dataclass(frozen=True)
class Begun:
    """Our run has begun; missing neighbours were reported as LOST before this event."""


@dataclass(frozen=True)
class Refused:
    """We have refused a neighbour (``by_us``), or it has refused us.

    reason : a sentence. older : it may have an older topology file, which would explain the refusal. key : one end does
    not admit the other's key.
    """

    peer: int
    reason: str
    by_us: bool
    older: bool = False
    key: bool = False


@dataclass(frozen=True)
class Arrived:
    """A complete payload of a ROW message has arrived."""

    peer: int
    header: Header
    payload: memoryview


@dataclass(frozen=True)
class Progressed:
    """A neighbour has reported new progress, or (``part``) a part of its message has arrived, but not yet the whole."""

    peer: int
    progress: Progress
    part: bool = False


@dataclass(frozen=True)
class Trouble:
    """A connection or message has failed, or does not come from a neighbour; the run goes on."""

    peer: int | None
    reason: str


@dataclass(frozen=True)
class Struck:
    """A neighbour has sent an invalid message, its ``strikes``-th."""

    peer: int
    reason: str
    strikes: int


@dataclass(frozen=True)
class Ponged:
    """A neighbour has answered a PING (reported to a checking peer only)."""

    peer: int


@dataclass(frozen=True)
class Paused:
    """This process did not run for ``seconds`` (stopped, suspended, or without processor time)."""

    seconds: float


@dataclass(frozen=True)
class Failed:
    """The I/O thread ended with an error; this is its last event."""

    error: BaseException


@dataclass(frozen=True)
class Woken:
    """A signal handler asks the training thread to call its ``check``."""


Event: TypeAlias = (
    Up | Agreed | Changed | Begun | Refused | Arrived | Progressed | Trouble | Struck | Ponged | Paused | Failed | Woken
)
