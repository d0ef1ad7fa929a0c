"""What a peer holds a neighbour for, what can happen to it, and what follows: one table. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """What a peer holds a neighbour for."""

    ABSENT = "absent"
    """It has not sent a HELLO, or was gone before our run began."""
    REFUSED = "refused"
    """One of the two does not admit the other; it may come back corrected."""
    PRESENT = "present"
    """It takes part, and is waited for."""
    SUSPECT = "suspect"
    """It takes part but has been silent for ``suspect_after``."""
    LOST = "lost"
    """It takes no part, and is dialled: it may come back as long as the run lasts."""
    RETURNING = "returning"
    """It is sent to but not waited for, until a row of its own shows that it has caught up."""
    DONE = "done"
    """It has ended the run."""
    BANNED = "banned"
    """Too many of its messages did not fit: nothing is exchanged with it any more."""


class Cause(Enum):
    """What happens to a neighbour."""

    HELLO = "its HELLO fits"
    RESTART = "it says HELLO in a later incarnation"
    MISFIT = "we refuse its HELLO"
    REFUSAL = "it refuses us"
    TRAFFIC = "a message comes"
    # On a schedule of graphs, where of some neighbours no row is due, its progress to that round stands for a row.
    ROW = "a row comes, of the round that we were in when it came back, or later"
    SILENCE = "silent for suspect_after"
    DEATH = "silent for dead_after"
    DONE = "BYE: done"
    LEFT = "BYE: another word"
    APART = "it holds us for lost; or it does not train when we join"
    DROPPED = "the run goes on without it"
    BEGIN = "our run begins"
    STRUCK_OUT = "too many messages that do not fit"


@dataclass(frozen=True)
class Either:
    """The next state before our run begins, and during it."""

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
"""What follows in each state; events that it does not name change nothing."""

WATCHED = (State.PRESENT, State.SUSPECT, State.RETURNING)
"""The states in which rows are sent, and silence is counted."""

GONE = (State.LOST, State.BANNED, State.DONE)
"""The states in which a neighbour is sent nothing and is not waited for."""
