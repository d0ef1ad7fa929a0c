"""A run as plain values, for the page and the terminal: peers, links, curves over the rounds, events, time left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from p2pser.base.errors import printable
from p2pser.base.wording import duration
from p2pser.peer.event_words import sentence
from p2pser.peer.following import Follower
from p2pser.peer.view import (
    FINISHED,
    NOT_STARTED,
    RUNNING,
    PeerView,
    RunView,
    concerns,
    count,
    dated,
    finite,
    look,
    when,
)
from p2pser.run.account import in_words

POINTS = 300
"""The most points of a curve, and of the moments of a replay."""
EVENTS = 300
"""The newest events that are shown."""


class Point(NamedTuple):
    """A measurement of a round: its mean over the peers, the smallest and the largest."""

    round: int
    mean: float
    low: float
    high: float


Series = list[tuple[int, float]]


class Observer:
    """Looks at a run again and again.

    folder : of a run, or of one peer in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lines = Follower(dated)

    def look(self, until: datetime | None = None) -> RunView:
        """Return the run as it is, or as it was then. Raises ConfigError: it is none."""
        return look(self.folder, until, self._lines)

    def document(self, round: int | None = None, peer: int | None = None) -> dict[str, Any]:
        """Return what the page shows.

        round : of a replay, as it was when all had done it; None: as it is now. peer : whose own curves are wanted.
        """
        now = self.look()
        ends = moments(now)
        until = None if round is None else next((at for done, at in reversed(ends) if done <= round), None)
        run = now if until is None else self.look(until)
        return {"run": run.name, "state": state(run), "rounds": rounds(run), "headline": headline(run),
                "live": any(view.state == RUNNING for view in now.peers), "seconds_left": seconds_left(run),
                "moments": thinned([done for done, _ in ends]), "at": moment(run).isoformat(),
                "peers": [_peer(view) for view in run.peers],
                "curves": {name: _curve(run, of, peer) for name, of in CURVES.items()},
                "events": [{"at": at.isoformat(), "peer": i, "problem": bad, "text": text}
                           for at, i, bad, text in events(run)]}


def moment(run: RunView) -> datetime:
    """Return the time that is shown: of a run that has ended, that of the last line of its files."""
    at = max(peer.at for peer in run.peers)
    if state(run) == RUNNING:
        return at
    last = [when(line) for peer in run.peers for line in (*peer.metrics[-1:], *peer.history[-1:])]
    return max((time for time in last if time is not None and time <= at), default=at)


def moments(run: RunView) -> list[tuple[int, datetime]]:
    """Return the rounds that are over, ascending, each with the time at which the last peer had done it."""
    ends: dict[int, datetime] = {}
    for peer in run.peers:
        for line in peer.metrics:
            done, at = count(line.get("round")), when(line)
            if done is not None and at is not None:
                ends[done] = max(at, ends.get(done, at))
    return list(zip(sorted(ends), accumulate((at for _, at in sorted(ends.items())), max)))


def thinned(values: Sequence[Any]) -> list[Any]:
    """Return at most about POINTS values, the last one among them."""
    step = -(-len(values) // POINTS) or 1
    return [*values[:-1:step], *values[-1:]]


def series(peer: PeerView, name: str) -> Series:
    """Return the measurements of one peer by round."""
    return [(done, value) for line in peer.metrics if (done := count(line.get("round"))) is not None
            and (value := finite(line.get(name))) is not None]


def sent(peer: PeerView) -> Series:
    """Return the bytes that a peer sent in each round."""
    totals = series(peer, "bytes_sent")
    before = [(-1, 0.0), *totals]
    # A process that was started again counts from 0.
    return [(done, total - last if total >= last else total) for (done, total), (_, last) in zip(totals, before)]


CURVES: dict[str, Callable[[PeerView], Series]] = {
    "uar": lambda peer: series(peer, "uar"), "loss": lambda peer: series(peer, "loss"),
    "distance": lambda peer: series(peer, "distance"), "bytes": sent}
"""The curves by name: what each takes of a peer."""


def over_peers(run: RunView, of: Callable[[PeerView], Series]) -> list[Point]:
    """Return a curve over all peers of which there are measurements, thinned."""
    values: dict[int, list[float]] = {}
    for peer in run.peers:
        for done, value in of(peer):
            values.setdefault(done, []).append(value)
    return [Point(done, sum(values[done]) / len(values[done]), min(values[done]), max(values[done]))
            for done in thinned(sorted(values))]


def _curve(run: RunView, of: Callable[[PeerView], Series], peer: int | None) -> dict[str, Any]:
    own = [thinned(of(view)) for view in run.peers if view.peer == peer]
    return {"all": over_peers(run, of), "own": own[0] if own else []}


def rounds(run: RunView) -> int:
    """Return the number of rounds of the run."""
    return max(max(peer.rounds, peer.round) for peer in run.peers)


def state(run: RunView) -> str:
    """Return ``running`` while a peer runs, else what most concerns: how one that has not finished ended."""
    states = [peer.state for peer in run.peers]
    if RUNNING in states:
        return RUNNING
    return next((status for status in states if status not in (FINISHED, NOT_STARTED)), states[0])


def seconds_left(run: RunView) -> float | None:
    """Return the time until the slowest running peer has done its rounds; None where that is unknown."""
    return max((left for peer in run.peers if (left := peer.seconds_left) is not None), default=None)


def headline(run: RunView) -> str:
    """Return one line on how far the run is, or how it ended."""
    running = [peer for peer in run.peers if peer.state == RUNNING and peer.activity != "done"]
    if running:
        done = sorted(peer.round for peer in running)
        between = f"{done[0]}" if done[0] == done[-1] else f"{done[0]} to {done[-1]}"
        return f"{between} of {rounds(run)} rounds are over"
    ended = next((peer.summary for peer in run.peers if peer.summary is not None), None)
    if ended is not None:
        uar = finite(ended.get("uar"))
        return printable(in_words(ended)) + ("" if uar is None else f", UAR {uar:.3f} on the held-out speakers")
    return f"{max(peer.round for peer in run.peers)} of {rounds(run)} rounds were done"


def waits(peer: PeerView) -> list[str]:
    """Return what a peer waits for, a sentence each, and how long its round lasts where that is unusual."""
    whom = list(peer.waits_for.values()) or ([] if peer.waiting is None else [peer.waiting])
    return whom if peer.stalled is None else [*whom, f"this round has lasted {duration(peer.stalled)} so far"]


def events(run: RunView) -> list[tuple[datetime, int, bool, str]]:
    """Return the newest events of all peers, newest first: time, peer, whether it is a problem, and a sentence."""
    newest: list[tuple[datetime, int, Mapping[str, Any]]] = [
        (at, peer.peer, event) for peer in run.peers for event in peer.history[-EVENTS:]
        if (at := when(event)) is not None]
    newest.sort(key=lambda entry: entry[:2])
    return [(at, i, concerns(event), sentence(event)) for at, i, event in reversed(newest[-EVENTS:])]


def _peer(peer: PeerView) -> dict[str, Any]:
    return {"peer": peer.peer, "activity": peer.activity, "state": peer.state, "round": peer.round,
            **{name: peer.newest(name) for name in ("uar", "loss", "distance")}, "sent": peer.newest("bytes_sent"),
            "since": None if peer.since is None else peer.since.isoformat(), "waits": waits(peer),
            "links": {str(j): {"state": link.state, "since": None if link.since is None else link.since.isoformat(),
                               "reason": link.reason} for j, link in sorted(peer.links.items())}}
