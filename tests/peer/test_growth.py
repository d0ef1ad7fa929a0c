"""Notices of topology files, as a peer passes them on. No network: the mixer is a stand-in."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from carriers import Carrier

from p2pser.config import Config
from p2pser.graph.spec import load
from p2pser.network.epochs import Epochs
from p2pser.peer.growth import AT_ONCE, Growth
from p2pser.run.setup import EPOCH
from p2pser.wire.messages import Header, Kind, Phase, Progress

RING = load("ring", peers=4)


def test_a_neighbour_with_notices_without_end_fills_no_queues_and_the_newest_goes_round() -> None:
    now = Progress(3, 0, Phase.TRAIN, 0)
    mixer: Any = Carrier(EPOCH, (1, 3), 0.0)
    mixer.io = SimpleNamespace(progress=now, clock=lambda: 5.0)
    reporter: Any = SimpleNamespace(tell=lambda *_, **__: None, event=lambda *_, **__: None)
    growth = Growth(Config(), RING, 0, 1, mixer, reporter)
    liar = Epochs(1, 1, RING.graph, 200, 1)
    liar.read(1, bytes(16), (), 0)
    for number in range(100):
        liar.notices[1] = replace(liar.notices[1], order=(1, number + 5))
        mixer.take(1, Header(Kind.ROW, bytes(8), 1, 1, now, round=EPOCH, slot=number), memoryview(liar.encode()))
    assert len(mixer.sent) == 2 * AT_ONCE
    growth.round_over(4)
    assert [to for to, _, _ in mixer.sent[2 * AT_ONCE :]] == [1, 3]
    heard = Epochs(3, 1, RING.graph, 200, 1)
    assert heard.receive(0, memoryview(mixer.sent[-1][2]))
    assert heard.notices[1].order == (1, 104)
    growth.round_over(5)
    assert len(mixer.sent) == 2 * AT_ONCE + 2
