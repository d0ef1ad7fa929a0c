"""The states of a neighbour, the events that change them, and the table of the next states. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """The state of a neighbour, as one peer sees it."""

    ABSENT = "absent"
    """It has not sent a HELLO, or has left before our run began."""
    REFUSED = "refused"
    """One of the two does not admit the other; it may come back with corrected settings."""
    PRESENT = "present"
    """It takes part, and is waited for."""
    SUSPECT = "suspect"
    """It takes part but has been silent for ``suspect_after``."""
    LOST = "lost"
    """It takes no part, and is dialled again and again: it may come back as long as the run lasts."""
    RETURNING = "returning"
    """Messages are sent to it, but it is not waited for until its own row shows that it has caught up."""
    DONE = "done"
    """It has ended the run."""
    BANNED = "banned"
    """Too many of its messages were invalid: no message is exchanged with it any more."""


class Cause(Enum):
    """An event that may change a neighbour's state."""

    HELLO = "its HELLO is accepted"
    RESTART = "its HELLO has a later incarnation"
    MISFIT = "we refuse its HELLO"
    REFUSAL = "it refuses us"
    TRAFFIC = "a message arrives"
    # On a schedule, where a neighbour may have no row to send, its progress to that round counts as the row.
    ROW = "its row arrives, of our round when it came back, or a later one"
    SILENCE = "silent for suspect_after"
    DEATH = "silent for dead_after"
    DONE = "BYE: done"
    LEFT = "BYE: another reason"
    APART = "it counts us as lost; or it does not train when we join"
    DROPPED = "the run goes on without it"
    BEGIN = "our run begins"
    STRUCK_OUT = "too many invalid messages"


@dataclass(frozen=True)
class Either:
    """The next state before our run has begun, and afterwards."""

    before: State
    during: State


_S, _C = State, Cause
_GONE = Either(_S.ABSENT, _S.LOST)
_TAKES_PART: dict[Cause, State | Either] = {
    _C.RESTART: _GONE, _C.REFUSAL: Either(_S.REFUSED, _S.LOST), _C.DEATH: _GONE, _C.DONE: Either(_S.ABSENT, _S.DONE),
    _C.LEFT: _GONE, _C.APART: _S.RETURNING, _C.DROPPED: _GONE, _C.STRUCK_OUT: _S.BANNED,
}
TABLE: dict[State, dict[Cause, State | Either]] = {
    _S.ABSENT: {_C.HELLO: _S.PRESENT, _C.TRAFFIC: _S.PRESENT, _C.MISFIT: _S.REFUSED, _C.REFUSAL: _S.REFUSED,
                _C.BEGIN: _S.LOST, _C.STRUCK_OUT: _S.BANNED},
    _S.REFUSED: {_C.HELLO: _S.PRESENT, _C.RESTART: _S.ABSENT, _C.DEATH: _S.ABSENT, _C.BEGIN: _S.LOST,
                 _C.STRUCK_OUT: _S.BANNED},
    _S.PRESENT: {**_TAKES_PART, _C.SILENCE: _S.SUSPECT},
    _S.SUSPECT: {**_TAKES_PART, _C.HELLO: _S.PRESENT, _C.TRAFFIC: _S.PRESENT},
    _S.LOST: {_C.HELLO: _S.RETURNING, _C.TRAFFIC: _S.RETURNING, _C.DONE: _S.DONE, _C.STRUCK_OUT: _S.BANNED},
    _S.RETURNING: {**_TAKES_PART, _C.APART: _S.RETURNING, _C.ROW: _S.PRESENT},
    _S.DONE: {_C.RESTART: _S.LOST, _C.STRUCK_OUT: _S.BANNED},
    _S.BANNED: {},
}
"""The next state for each state and event; other events change nothing."""

WATCHED = (State.PRESENT, State.SUSPECT, State.RETURNING)
"""The states in which rows are sent, and silence counts."""

GONE = (State.LOST, State.BANNED, State.DONE)
"""The states in which no rows are sent to a neighbour, and it is not waited for."""
