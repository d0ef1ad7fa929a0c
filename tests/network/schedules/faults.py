"""The faults of a schedule, drawn from its seed.

A fault begins at a time, or at an instant of a peer's progress (a phase and round that it enters); each is undone some
time later, so that in the end every direction is open and every peer but those that are given up runs.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pser.wire.messages import Phase

if TYPE_CHECKING:
    from schedules.schedule import Schedule

SHORT, LONG = (0.1, 0.6, 1.5, 2.5), (3.5, 5.0, 9.0, 20.0)
"""Seconds of a fault: shorter, and longer, than ``network.dead_after``."""
PHASES = (Phase.START, Phase.SETUP, Phase.TRAIN, Phase.EXCHANGE, Phase.CONSENSUS, Phase.END)


@dataclass(frozen=True)
class When:
    """A time after the beginning [s], or (phase, round) of a peer's progress and a delay."""

    seconds: float
    peer: int | None = None
    phase: Phase = Phase.START
    round: int = 0

    def __str__(self) -> str:
        if self.peer is None:
            return f"at {self.seconds:.2f} s"
        return f"{self.seconds:.3f} s after peer {self.peer} enters {self.phase.name} {self.round}"


@dataclass(frozen=True)
class Fault:
    """A fault: when it begins, what it is in words, and what does it."""

    when: When
    words: str
    do: Callable[[Schedule], None]

    def __str__(self) -> str:
        return f"{self.when}: {self.words}"


def draw_faults(draw: random.Random, size: int, rounds: int, length: float, patient: bool) -> list[Fault]:
    """Return the faults of a schedule.

    size : number of peers. rounds : R. length : about how long the run takes [s]. patient : peers wait for each other
    without limit at the start, so that nobody may stay away for good.
    """
    count = draw.choice((0, 1, 1, 1, 2, 2, 3, 5))
    return [_fault(draw, _when(draw, size, rounds, length), size, patient) for _ in range(count)]


def _when(draw: random.Random, size: int, rounds: int, length: float) -> When:
    if draw.random() < 0.5:
        return When(draw.random() * length * 1.1)
    phase = draw.choice(PHASES)
    round = draw.randrange(rounds) if phase in (Phase.TRAIN, Phase.EXCHANGE) else 0
    return When(draw.choice((0.0, 0.0005, 0.003, 0.02, 0.2)) * draw.random(), draw.randrange(size), phase, round)


def _duration(draw: random.Random) -> float:
    return draw.choice(SHORT if draw.random() < 0.4 else LONG) * (0.8 + 0.4 * draw.random())


def _fault(draw: random.Random, when: When, size: int, patient: bool) -> Fault:
    kinds = (_kill, _kill, _kill, _kill_some, _stop, _cut, _cut, _reset, _slow, _full, _die_writing, _leave, _jump,
             _late)
    words, do = draw.choice(kinds)(draw, size, patient)
    return Fault(when, words, do)


Made = tuple[str, Callable[["Schedule"], None]]


def _back(draw: random.Random, patient: bool) -> tuple[str, Callable[[Schedule, int], None]]:
    """Return how a killed peer comes back."""
    after = _duration(draw)
    way = draw.choice(("", "", "", "", "", "torn", "empty", "fresh", "never"))
    if way == "never" and patient:
        way = ""

    def come(schedule: Schedule, peer: int) -> None:
        if way == "never":
            schedule.given_up.add(peer)
        else:
            schedule.start_again(peer, after, way)

    return ("for good" if way == "never" else f"for {after:.1f} s" + (f", back {way}" if way else "")), come


def _kill(draw: random.Random, size: int, patient: bool) -> Made:
    peer, quietly = draw.randrange(size), draw.random() < 0.4
    words, come = _back(draw, patient)

    def do(schedule: Schedule) -> None:
        if schedule.kill(peer, quietly):
            come(schedule, peer)

    return f"kill {peer}{' (its machine goes down)' if quietly else ''} {words}", do


def _kill_some(draw: random.Random, size: int, patient: bool) -> Made:
    peers = draw.sample(range(size), draw.randint(2, size))
    ways = {peer: _back(draw, patient) for peer in peers}

    def do(schedule: Schedule) -> None:
        for peer in peers:
            if schedule.kill(peer, False):
                ways[peer][1](schedule, peer)

    return "kill " + ", ".join(f"{peer} {words}" for peer, (words, _) in ways.items()), do


def _stop(draw: random.Random, size: int, patient: bool) -> Made:
    peers, seconds = draw.sample(range(size), draw.choice((1, 1, 1, 2))), _duration(draw)

    def do(schedule: Schedule) -> None:
        for peer in peers:
            schedule.stop(peer, seconds)

    return f"stop {peers} for {seconds:.1f} s", do


def _cut(draw: random.Random, size: int, patient: bool) -> Made:
    seconds, way = _duration(draw), draw.choice(("both", "both", "one"))
    reset = draw.random() < 0.5
    some = draw.sample(range(size), draw.randint(1, size - 1))
    others = [i for i in range(size) if i not in some]
    if draw.random() < 0.5:
        some, others = some[:1], others[:1]
    pairs = [(i, j) for i in some for j in others]
    if way == "both":
        pairs += [(j, i) for i, j in pairs]

    def do(schedule: Schedule) -> None:
        schedule.cut(pairs, seconds, reset)

    return f"cut {some} {'<->' if way == 'both' else '->'} {others} for {seconds:.1f} s{', reset' if reset else ''}", do


def _reset(draw: random.Random, size: int, patient: bool) -> Made:
    peer = draw.randrange(size)

    def do(schedule: Schedule) -> None:
        for other in range(size):
            schedule.network.reset(peer, other)

    return f"reset the connections of {peer}", do


def _slow(draw: random.Random, size: int, patient: bool) -> Made:
    i, j = draw.sample(range(size), 2)
    seconds, more = _duration(draw), draw.choice((0.2, 0.7, 1.8))

    def do(schedule: Schedule) -> None:
        schedule.slow(i, j, more, seconds)

    return f"slow {i} -> {j} by {more} s for {seconds:.1f} s", do


def _full(draw: random.Random, size: int, patient: bool) -> Made:
    peer, seconds = draw.randrange(size), _duration(draw)

    def do(schedule: Schedule) -> None:
        schedule.fill(peer, seconds)

    return f"the disk of {peer} is full for {seconds:.1f} s", do


def _die_writing(draw: random.Random, size: int, patient: bool) -> Made:
    peer, call = draw.randrange(size), draw.randint(1, 40)
    words, come = _back(draw, patient)

    def do(schedule: Schedule) -> None:
        schedule.die_writing(peer, call, lambda: come(schedule, peer))

    return f"kill {peer} at its disk call {call} from now {words}", do


def _leave(draw: random.Random, size: int, patient: bool) -> Made:
    peers, seconds = draw.sample(range(size), draw.choice((1, 1, 2, size))), _duration(draw)

    def do(schedule: Schedule) -> None:
        for peer in peers:
            schedule.interrupt(peer, seconds)

    return f"interrupt {peers} for {seconds:.1f} s", do


def _jump(draw: random.Random, size: int, patient: bool) -> Made:
    peer, seconds = draw.randrange(size), draw.choice((1.0, 5.0, 60.0))

    def do(schedule: Schedule) -> None:
        schedule.jump(peer, seconds)

    return f"the clock of {peer} jumps by {seconds:g} s", do


def _late(draw: random.Random, size: int, patient: bool) -> Made:
    peer, seconds = draw.randrange(size), _duration(draw)

    def do(schedule: Schedule) -> None:
        schedule.delay_start(peer, seconds)

    return f"start {peer} {seconds:.1f} s later", do
