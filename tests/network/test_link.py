"""One neighbour as the I/O thread sees it, without a socket."""

from __future__ import annotations

from p2pser.network.link import PROGRESS_INTERVAL, Link, Neighbour
from p2pser.wire.messages import Phase, Progress


def at(round: int, phase: Phase, beat: int, slot: int = 0) -> Progress:
    return Progress(round, slot, phase, beat)


def test_steps_within_a_phase_are_told_now_and_then_and_everything_else_at_once() -> None:
    link = Link(Neighbour(1, None, "k" * 40), 65536, 1 << 20)
    assert link.note_progress(at(0, Phase.TRAIN, 1), 10.0)
    assert not link.note_progress(at(0, Phase.TRAIN, 2), 10.1)
    assert link.note_progress(at(0, Phase.EXCHANGE, 0), 10.1)
    assert link.note_progress(at(0, Phase.TRAIN, 0, slot=1), 10.1)
    assert link.note_progress(at(1, Phase.TRAIN, 1), 10.1)
    assert not link.note_progress(at(1, Phase.TRAIN, 1), 20.0), "nothing new"
    assert not link.note_progress(at(0, Phase.TRAIN, 9), 20.0), "a chunk tells how far its sender was when it posted"
    assert link.note_progress(at(1, Phase.TRAIN, 2), 10.1 + PROGRESS_INTERVAL)
    link.forget()
    assert link.note_progress(at(0, Phase.TRAIN, 1), 10.4)
