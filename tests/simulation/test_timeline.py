"""The time of lock-step: lines that messages share, latencies, stragglers, and the bytes of the wire."""

from __future__ import annotations

import time

import numpy as np
import pytest

from p2pser.base.errors import ConfigError
from p2pser.gossip.mixer import Step
from p2pser.simulation import framing
from p2pser.simulation.clock import Clock
from p2pser.simulation.links import LINES, Line, Links, Way
from p2pser.simulation.timeline import Timeline
from p2pser.wire.messages import Kind

RING = np.array([1, 5, 0, 2, 1, 3, 2, 4, 3, 5, 4, 0]), np.repeat(np.arange(6), 2)
"""(dst, src) of a ring of 6."""


def timeline(links: Links, peers: int = 6, **clock: object) -> Timeline:
    return Timeline(Clock(step_s=0.1, jitter=0.0, links=links, **clock), peers, framed=False)


def trained(line: Timeline, round: int, steps: int = 5) -> Timeline:
    line.begin(round)
    for peer in range(len(line.now)):
        for _ in range(steps):
            line.stepped(peer)
    return line


def exchanged(line: Timeline, round: int, dst: np.ndarray, src: np.ndarray, size: object) -> np.ndarray:
    line.post(Step(round, 0), dst, src, size)
    line.collect(Step(round, 0))
    return line.now


def test_a_peers_messages_share_its_line_and_arrive_together() -> None:
    line = trained(timeline(Links(Line(0.05, 1000, 1e9))), 0)
    assert exchanged(line, 0, *RING, 100) == pytest.approx(np.full(6, 0.5 + 0.2 + 0.05))
    # Of messages side by side the shorter one leaves when both have sent as much, the longer one has the line then.
    unequal = timeline(Links(Line(0.0, 1000, 1e9)), 3)
    assert exchanged(unequal, 0, np.array([1, 2]), np.array([0, 0]), np.array([100, 300])) \
        == pytest.approx([0, 0.2, 0.4])


def test_a_hub_receives_one_upload_after_the_other_and_a_slow_line_delays_its_neighbours_only() -> None:
    star = timeline(Links(Line(0.0, 1000, 1e9), {0: Line(0.0, 1000, 500)}), 5)
    assert exchanged(star, 0, np.zeros(4, int), np.arange(1, 5), 100)[0] == pytest.approx(0.8)
    ring = timeline(Links(Line(0.0, 1000, 1e9), {2: Line(0.0, 100, 1e9)}))
    assert exchanged(ring, 0, *RING, 100) == pytest.approx([0.2, 2, 0.2, 2, 0.2, 0.2])


def test_a_known_way_has_its_own_latency_and_rate() -> None:
    way = Links(Line(0.1, 1000, 1e9), ways={(1, 0): Way(0.4, 50)})
    assert exchanged(timeline(way), 0, *RING, 100) == pytest.approx([0.3, 0.4 + 2, 0.3, 0.3, 0.3, 0.3])
    mixed = Links(Line(0.1), {3: Line(0.3)})
    assert (mixed.latency(0, 3), mixed.latency(3, 4), mixed.latency(0, 1)) == pytest.approx((0.2, 0.2, 0.1))


def test_a_straggler_slows_all_to_its_own_pace() -> None:
    line = timeline(Links(Line(0.0, 1e12, 1e12)), slow={0: 5.0})
    for round in range(20):
        exchanged(trained(line, round), round, *RING, 100)
    assert line.now.min() == pytest.approx(17 * 2.5 + 3 * 0.5, rel=0.1)
    assert line.now.max() == pytest.approx(20 * 2.5)


def test_messages_travel_while_peers_train() -> None:
    line = timeline(Links(Line(0.4, 1e12, 1e12)))
    line.begin(0)
    line.post(Step(0, 0), *RING, 100)
    trained(line, 0)
    line.collect(Step(0, 0))
    assert line.now == pytest.approx(np.full(6, 0.5))


def test_tcp_begins_slowly_where_the_way_is_long_and_wide() -> None:
    """Of 200 kB over 1 MB/s with 0.2 s there and back, 10 segments leave, 20 and so on, until they fill the way."""
    wide = timeline(Links(Line(0.1, 1e6, 1e6)), 2)
    stalls = sum(0.2 - window / 1e6 for window in (14480, 28960, 57920))
    assert exchanged(wide, 0, np.array([1]), np.array([0]), 200_000)[1] == pytest.approx(0.2 + 0.1 + stalls)


def test_the_bytes_of_the_wire_are_those_of_messages_and_credits() -> None:
    assert 70 <= framing.header_bytes(Kind.CREDIT) < framing.header_bytes(Kind.ROW) <= 140
    assert framing.sent(np.array([2_000_000, 10])).tolist() == [
        2_000_000 + 4 * framing.header_bytes(Kind.ROW), 10 + framing.header_bytes(Kind.ROW)]
    assert framing.on_the_line(np.array([1448 * 3])) == 1448 * 3 + 3 * 66
    line = timeline(Links())
    exchanged(line, 0, *RING, 400_000)
    assert line.traffic.messages_sent.tolist() == [2] * 6
    each = 2 * (400_000 + framing.header_bytes(Kind.ROW) + framing.header_bytes(Kind.CREDIT))
    assert line.traffic.sent.tolist() == line.traffic.received.tolist() == [each] * 6


def test_thousands_of_peers_take_time_by_their_links() -> None:
    peers = 20_000
    each = np.arange(peers)
    dst, src = np.r_[(each + 1) % peers, (each - 1) % peers], np.r_[each, each]
    line = timeline(Links(LINES["dsl"]), peers)
    began = time.process_time()
    for round in range(20):
        exchanged(line, round, dst, src, 400_000)
    assert time.process_time() - began < 10
    assert line.now == pytest.approx(np.full(peers, 20 * (0.64 + 0.015)), rel=0.2)


@pytest.mark.parametrize("made", [lambda: Line(up=0), lambda: Line(latency_s=-1), lambda: Way(0, 0),
                                  lambda: Way(float("nan"))])
def test_what_cannot_be_is_refused(made) -> None:
    with pytest.raises(ConfigError, match=r"positive|negative"):
        made()
