"""Eight processes that average under masks, one of which is killed in each phase of a sum: what is sent is read."""

from __future__ import annotations

import json
import os
import signal
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from p2pser.config import Config
from p2pser.gossip.agreement.flood import most_slots
from p2pser.graph.spec import Topology, load
from p2pser.network.io import IOThread
from p2pser.peer.launch import LocalPeers, child_work

PEERS, ROUNDS, DIES_IN = 8, 7, 3
SUM = most_slots(load("ring", peers=PEERS).graph)
"""The slot in which partial sums begin: up in 4 slots to peer 0, the root, and down in 4."""
CLOSING = SUM + 2 * PEERS + 1
CASES = {"the census begins": (5, 0), "the census goes on": (3, 3), "a leaf gives its input": (4, SUM),
         "a partial sum goes up": (2, SUM + 2), "the root holds the total": (0, SUM + 4),
         "the total goes down": (1, SUM + 5), "the sum is closed": (6, CLOSING)}
"""A peer, and the slot in which it dies instead of sending."""


@dataclass(frozen=True)
class Recorded:
    """A peer's process, which writes down what it sends in training, and whose first life ends at an instant.

    folder : of the records. dies : (round, slot).
    """

    folder: Path
    dies: tuple[int, int] | None = None

    def __call__(self, config: Config, topology: Topology, me: int, *rest: Any) -> None:
        plain, path = IOThread.send, self.folder / f"{me}.jsonl"
        first = not path.exists()

        def send(io: IOThread, peers: Any, step: tuple[int, int], payload: Any, **fields: Any) -> None:
            if first and tuple(step) == self.dies:
                os.kill(os.getpid(), signal.SIGKILL)
            if 0 <= step[0] < ROUNDS:
                with path.open("a") as file:
                    file.write(json.dumps([*step, bytes(payload).hex()]) + "\n")
            plain(io, peers, step, payload, **fields)

        path.touch()
        IOThread.send = send  # type: ignore[method-assign,assignment]
        child_work(config, topology, me, *rest)


def totals(folder: Path, size: int) -> dict[int, set[bytes]]:
    """The totals that were sent in each round: what begins with 3 to 8 peers, and as much weight; a mask never does."""
    found = defaultdict(set)
    for path in folder.glob("*.jsonl"):
        for line in path.read_text().splitlines():
            round, _, text = json.loads(line)
            body = bytes.fromhex(text)
            for skipped in (16, 1):
                if len(body) == skipped + 4 * (size + 2):
                    numbers = np.frombuffer(body, dtype="<u4", offset=skipped)
                    if 3 <= numbers[0] == numbers[1] <= PEERS:
                        found[round].add(numbers.tobytes())
    return found


def run(real: Any, config: Config, victim: int, slot: int, back: bool) -> tuple[dict[int, int], dict[int, Any], Path]:
    topology, folder = load("ring", peers=PEERS), real.folder / "wire"
    folder.mkdir()
    codes, summaries = {}, {}
    with LocalPeers(config, topology, []) as peers:
        for i in range(PEERS):
            peers.start(i, work=Recorded(folder, (DIES_IN, slot) if i == victim else None))
        for record in peers.records():
            if record.get("kind") == "gone":
                codes[record["reporter"]] = record["exit_code"]
                if back and record["exit_code"] == -signal.SIGKILL:
                    peers.start(victim, work=Recorded(folder))
            if record.get("kind") == "ended":
                summaries[record["reporter"]] = record["summary"]
    return codes, summaries, folder


@pytest.mark.parametrize("phase", CASES)
def test_one_is_killed_in_a_phase_of_a_sum_and_the_others_end_with_the_same_bits(real: Any, phase: str) -> None:
    victim, slot = CASES[phase]
    config = real.config("out", "gossip.algorithm=secure-average", f"training.rounds={ROUNDS}", "network.dead_after=3",
                         "network.ping_after=0.5", "network.suspect_after=1.5", peers=PEERS)
    back = phase == "a partial sum goes up"
    codes, summaries, folder = run(real, config, victim, slot, back)
    living = [i for i in range(PEERS) if i != victim]
    rows = real.rows(config, living)
    assert torch.equal(rows, rows[:1].expand_as(rows))
    assert {codes[i] for i in living} <= ({0, 3} if back else {3})
    assert back or codes[victim] == -signal.SIGKILL
    assert all(summaries[i]["agreed"] >= PEERS - 1 for i in living)
    sent = totals(folder, rows.shape[1])
    assert all(len(of_round) == 1 for of_round in sent.values())  # never two totals of one round
    over = {round: int(np.frombuffer(total, dtype="<u4")[0]) for round, (total,) in sent.items()}
    assert all(over[round] == PEERS for round in range(DIES_IN))
    later = [over[round] for round in range(DIES_IN + 1, ROUNDS) if round in over]
    assert len(later) >= ROUNDS - DIES_IN - 1 - back  # the sum under way when the peer comes back may be dropped
    assert all(summed >= PEERS - 1 for summed in later)
    if phase != "the census goes on":  # where some have heard of it and others have not, the sum is dropped
        assert (DIES_IN in over) == (phase in ("the census begins", "the total goes down", "the sum is closed"))


def test_what_a_peer_sends_before_the_total_tells_nothing_of_its_row(real: Any) -> None:
    """Its message up, and the row that it must hide, have no more in common than chance gives."""
    config = real.config("out", "gossip.algorithm=secure-average", "training.rounds=2", "peer.checkpoint_every=1",
                         peers=PEERS)
    _, _, folder = run(real, config, 99, 0, False)
    row = real.row(config, 4).numpy()
    up = []
    for line in (folder / "4.jsonl").read_text().splitlines():
        _, slot, text = json.loads(line)
        if slot == SUM and len(text) > 100:
            up.append(np.frombuffer(bytes.fromhex(text), dtype="<i4", offset=16)[2:].astype(float))
    assert len(up) == 2
    for message in up:
        assert abs(np.corrcoef(message, row)[0, 1]) < 5 / np.sqrt(len(row))
    assert abs(np.corrcoef(*up)[0, 1]) < 5 / np.sqrt(len(row))
