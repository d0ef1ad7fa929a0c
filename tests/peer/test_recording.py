"""A recording ends where the disk is full, and the run does not; a lost peer's rows give no view of anybody."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import IO

import msgpack
import pytest
import torch
from crew import Crew

from p2pser.base import atomic
from p2pser.base.errors import ConfigError
from p2pser.gossip.mixer import Step
from p2pser.graph.spec import load
from p2pser.peer import recording
from p2pser.peer.recording import HELD, MESSAGE, SUMS, TRAINED, received, records
from p2pser.peer.telemetry import read
from p2pser.privacy.wire import Wire
from p2pser.wire.codec import DENSE, Received


def test_what_a_peer_receives_is_kept_for_so_many_rounds(crew: Crew) -> None:
    config = crew.configured("kept", "privacy.record=2", "training.rounds=4")
    assert all(one.finished for one in crew.run(config))
    kept = list(records(crew.path(config, 1) / "received"))
    assert {record[0] for record in kept} == {MESSAGE, SUMS, HELD, TRAINED}
    assert [record[1] for record in kept if record[0] == HELD] == [0, 1, 2]
    assert [record[1] for record in kept if record[0] == TRAINED] == [0, 1]
    messages = [record for record in kept if record[0] == MESSAGE]
    assert {record[1] for record in messages} == {0, 2}
    rounds = [record[2] for record in messages]
    assert {0, 1, 2, 3} <= {*rounds}
    assert min(rounds) < 0
    assert max(rounds) > 4
    assert all((record[6] is None) == (record[2] >= 2) for record in messages)
    again = crew.configured("kept", "privacy.record=2", "training.rounds=4")
    assert all(one.finished for one in crew.run(again, fresh=True))
    assert len(list((crew.path(config, 1) / "received").iterdir())) == 1  # of the new start only
    assert all(one.finished for one in crew.run(crew.configured("unkept", "training.rounds=1")))
    assert not (crew.path(crew.configured("unkept"), 1) / "received").exists()


def test_a_full_disk_ends_the_recording_and_not_the_run(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: IO[bytes], line: bytes) -> int:
        if "peer-1" in os.readlink(f"/proc/self/fd/{file.fileno()}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return atomic.append_whole(file, line)

    monkeypatch.setattr(recording, "append_whole", full)
    config = crew.configured("full", "privacy.record=2", "training.rounds=3")
    assert all(one.finished for one in crew.run(config))
    ended = [one for one in read(crew.path(config, 1) / "events.jsonl") if one["kind"] == "recording_ended"]
    assert [one["reason"] for one in ended] == ["cannot write the received messages: No space left on device"]
    assert list(records(crew.path(config, 1) / "received")) == []
    assert list(records(crew.path(config, 0) / "received"))


def test_a_message_that_no_codec_reads_counts_without_its_content() -> None:
    row = bytes(DENSE.encode(torch.arange(3.0)))
    step, sender, message = received([MESSAGE, 2, 5, 1, "f4", 3, row])
    assert (step, sender) == (Step(5, 1), 2)
    assert message is not None
    assert isinstance(message.body, torch.Tensor)
    assert message.body.tolist() == [0.0, 1.0, 2.0]
    for form, size, payload in (("f4", 4, row), ("no such form", 3, row), ("f4", 3, None)):
        assert received([MESSAGE, 2, 5, 1, form, size, payload]) == (Step(5, 1), 2, None)
    _, _, octets = received([MESSAGE, 2, 5, 1, "", 0, b"abc"])
    assert octets == Received(2, bytearray(b"abc"))


def test_a_file_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    for record in (7, [HELD, 1], [[]]):
        (tmp_path / "000000.msgpack").write_bytes(msgpack.packb(record))
        what = re.escape(f"000000.msgpack: {record} is not a record; record the run anew")
        with pytest.raises(ConfigError, match=f"cannot read the recorded messages .*{what}"):
            list(records(tmp_path))


def test_nothing_is_known_from_the_row_of_a_lost_peer() -> None:
    wire = Wire(load("ring", 4, 0), torch.zeros(2), frozenset({1}), rejoins=True)
    rows = torch.arange(8.0).view(4, 2)
    wire.held(1, torch.where(torch.tensor([[False], [True], [False], [False]]), torch.nan, rows))
    for sender in (1, 3):
        wire.received(Step(1, 0), (0, sender), Received(sender, torch.ones(2)))
    assert wire.view(1, (0,), 1) is None
    known = wire.view(3, (0,), 1)
    assert known is not None
    assert known.update.tolist() == [-5.0, -6.0]
