"""One liar among whole honest peers, on a fake clock and network: no lie ends the run of the others, or is unseen."""

from __future__ import annotations

import dataclasses
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from p2pser.gossip.secrets import NONCE
from p2pser.run.setup import STATISTICS
from p2pser.wire.messages import Header, Kind, Progress, decode, encode
from schedules.faults import Fault, When
from schedules.lies import KINDS, Lies
from schedules.schedule import DEAD_AFTER, ROUND_TIMEOUT, Schedule

LIAR = 1
Lie = Callable[[int, Header, bytes], bytes]
"""(receiver, header, payload) -> the payload that leaves in its place."""


class Lied(Schedule):
    """A schedule without faults whose peer 1 replaces what it sends."""

    def __init__(self, folder: Path, lie: Lie, algorithm: str = "dfedavg", topology: str = "complete",
                 settings: tuple[str, ...] = ()) -> None:
        super().__init__(4, folder, algorithm, topology, faults=False)
        self.config = self.config.with_settings(["features.normalise=global", *settings])
        self.liar = LIAR
        self.network.mutate[LIAR] = lambda receiver, frame: (self._changed(lie, receiver, frame),)
        self.run()

    @staticmethod
    def _changed(lie: Lie, receiver: int, frame: bytes) -> bytes:
        header, payload = decode(frame)
        if header.kind is not Kind.ROW:
            return frame
        told = lie(receiver, header, bytes(payload))
        return encode(header._replace(total=len(told)), told)

    def data_of(self, me: int) -> Any:
        return dataclasses.replace(super().data_of(me), normalise="global")

    @property
    def honest(self) -> set[int]:
        return set(self.machines) - {LIAR}

    def ends(self) -> list[Any]:
        """How the honest peers have ended: their exit codes, and what they raised."""
        return [machine.past[-1].exit_code if machine.past[-1].ended[0] == "done" else machine.past[-1].ended
                for i, machine in self.machines.items() if i != LIAR]

    def said(self, words: str) -> set[int]:
        """The honest peers that say these words."""
        return {i for i in self.machines if i != LIAR
                and any(who == i and words in " ".join(map(str, what)) for _, who, *what in self.world.trace)}


def numbers(first: int, *values: float) -> Lie:
    """In each message of the statistics from exchange ``first`` on: these numbers from the front, then zeros."""
    def lie(receiver: int, header: Header, payload: bytes) -> bytes:
        if header.round != STATISTICS or header.slot < first:
            return payload
        told = struct.pack(f"<{len(values)}d", *values)
        return told + payload[len(told):]

    return lie




@pytest.mark.parametrize("values", [(-1e9,), (1e29,), (6.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)], ids=str)
def test_false_statistics_of_ones_own_clips_are_refused_and_their_sender_is_named(
        folder: Path, values: tuple[float, ...]) -> None:
    one = Lied(folder, numbers(0, *values))
    assert not one.violations
    assert set(one.ends()) <= {0, 3}, one.ends()
    assert one.said("peer 1 sent false statistics of its clips") == one.honest


def test_statistics_that_become_false_later_end_no_peer_and_each_says_so(folder: Path) -> None:
    one = Lied(folder, numbers(1, -1e9))
    assert not one.violations
    assert one.ends() == [0] * len(one.honest)
    assert one.said("the statistics of features and targets cannot be those of all peers") == one.honest


def two_nonces(receiver: int, header: Header, payload: bytes) -> bytes:
    """In each census of training: another nonce for each neighbour."""
    if header.codec or not 0 <= header.round < 3:
        return payload
    try:
        final, values, cut = msgpack.unpackb(payload)
    except (TypeError, ValueError, msgpack.ExtraData):
        return payload
    return bytes(msgpack.packb([final, [[i, bytes([receiver]) * NONCE + value[NONCE:] if i == LIAR else value]
                                        for i, value in values], cut]))


def test_one_that_tells_each_neighbour_another_nonce_brings_about_no_total_and_each_peer_says_so(folder: Path) -> None:
    one = Lied(folder, two_nonces, "secure-average", "ring", ("features.normalise=none", "training.rounds=3"))
    assert not one.violations
    assert one.ends() == [3] * len(one.honest)
    assert one.said("this round has no total") == one.honest
    assert one.said("no total of a secure sum has reached them all") == one.honest
    assert not one.said("raise gossip.max_consensus_exchanges")


@pytest.mark.parametrize(("topology", "seed", "away"), [
    ("random-regular", 0, 0.5), ("random-regular", 0, 8.0), ("ring", 0, 8.0), ("exponential", 0, 4.0)])
def test_beside_one_that_sends_no_rows_nobody_waits_longer_than_for_one_that_is_lost(
        folder: Path, topology: str, seed: int, away: float) -> None:
    """In training the liar answers PINGs and reports progress, as it makes it; peer 2 is killed and comes back."""
    one = Schedule(seed, folder, "dfedavg", topology, faults=False)
    one.config = one.config.with_settings(["training.rounds=25", "features.normalise=none"])
    one.liar, lies = LIAR, []
    one.network.mutate[LIAR] = lambda receiver, frame: () if lies and _is_row_of_training(frame) else (frame,)
    for machine in one.machines.values():
        machine.pace = 0.5
    begun: dict[int, tuple[object, float]] = {}
    waits = [0.0]

    def progressed(peer: int, progress: Progress) -> None:
        at, (before, since) = (one.machines[peer].process, progress.round), begun.get(peer, (None, 0.0))
        if before != at:
            if before is not None and before[0] is at[0] and peer != LIAR:
                waits.append(one.world.now - since)
            begun[peer] = at, one.world.now
        plain(peer, progress)

    plain, one._progressed = one._progressed, progressed
    one.faults = [Fault(When(2.0), "the lie begins", lambda _: lies.append(True)),
                  Fault(When(12.0), "kill 2", lambda _: (one.kill(2, True), one.start_again(2, away, ""))[1])]
    one.run()
    assert not one.violations
    assert len(waits) > 25 * (len(one.machines) - 2)
    assert DEAD_AFTER < max(waits) < 1.5 * DEAD_AFTER


def _is_row_of_training(frame: bytes) -> bool:
    header, _ = decode(frame)
    return header.kind is Kind.ROW and 0 <= header.round < 25


def test_one_that_answers_just_in_time_is_named_with_its_share_and_the_run_goes_on(folder: Path) -> None:
    one = Schedule(4, folder, "dfedavg", "ring", faults=False)
    one.config = one.config.with_settings(["training.rounds=17"])
    for i, machine in one.machines.items():
        machine.pace = 0.8 * ROUND_TIMEOUT if i == LIAR else 0.02
    one.run()
    assert not one.violations
    assert {machine.past[-1].exit_code for machine in one.machines.values()} == {0}
    told = {who: what[0] for _, who, says, *what in one.world.trace if says == "says" and " slow: " in str(what[0])}
    assert {who for who, what in told.items() if f"finds peer {LIAR} at " in what} == {0, 2}
    assert all(": 9" in what for what in told.values())


def test_every_kind_of_lie_changes_what_is_sent(folder: Path) -> None:
    sent: list[bytes] = []

    def heard(receiver: int, frame: bytes) -> tuple[bytes, ...]:
        sent.append(frame)
        return (frame,)

    whole = Schedule(5, folder, "dfedavg", "ring", faults=False)
    whole.network.mutate[LIAR] = heard
    assert not whole.run().violations
    for kind in KINDS:
        lies = Lies(kind, random.Random(3), 1.0)
        assert [told for frame in sent for told in lies(0, frame)] != sent, kind
