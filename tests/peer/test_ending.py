"""The end of a peer's run: killed at any write, on a disk that takes no write, and what it says of the others."""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from crew import Crew

from p2pser.base import energy
from p2pser.base.errors import P2PSERError
from p2pser.config import Config
from p2pser.evaluation.outputs import Outputs
from p2pser.gossip.agreement.consensus import Consensus, no_consensus
from p2pser.models.calibrated import Calibrated
from p2pser.network.past import PastExchanges
from p2pser.peer.ending import Ending, LastPhase
from p2pser.peer.handover import ModelTaken
from p2pser.peer.outcome import Outcome
from p2pser.peer.process import Interrupted, Peer, _Attendance
from p2pser.peer.recording import Recording
from p2pser.peer.telemetry import Telemetry, read
from p2pser.run.account import account, complete, in_words
from p2pser.run.participant import Cohort
from p2pser.run.setup import RollCall

WRITES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.truncate", "shutil.rmtree")
CALL = RollCall(0, {0: 12, 1: 12, 2: 12}, frozenset(), {0: 1.0, 1: 1.0, 2: 1.0})


class Killed(BaseException):
    """The process ends here."""


class FaultyDisk:
    """Raises at the writes below a folder, from a given one on. ``count``: of the writes so far."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.count = 0
        self._fails: Callable[[int], BaseException | None] = lambda k: None

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.folder is None or not (event in WRITES or (event == "open" and self._writes(args))):
            return
        path = os.fspath(args[0]) if isinstance(args[0], (str, os.PathLike)) else ""
        if os.path.isabs(path) and not path.startswith(str(self.folder)):
            return
        self.count += 1
        if (error := self._fails(self.count)) is not None:
            raise error

    @staticmethod
    def _writes(args: tuple[Any, ...]) -> bool:
        return not isinstance(args[0], int) and bool(args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))

    def watch(self, folder: Path, fails: Callable[[int], BaseException | None] = lambda k: None) -> None:
        self.folder, self.count, self._fails = folder, 0, fails

    def off(self) -> None:
        self.folder = None


_disk = FaultyDisk()
sys.addaudithook(_disk)


@pytest.fixture(autouse=True)
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No processor time passes, so that equal models have equal cards."""
    monkeypatch.setattr(energy, "_processor_s", lambda: 0.0)


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    yield _disk
    _disk.off()


class Last:
    """The last phase of a peer of a run with personal models, without a network."""

    def __init__(self, crew: Crew, name: str, *settings: str) -> None:
        self.crew = crew
        self.config: Config = crew.configured(name, "training.fine_tune=3", "privacy.draws=seed", *settings)
        self.peer: Peer = crew.peer(self.config, 1)
        self.folder = self.peer.folder.path
        self.peer.folder.claim(False)
        self.telemetry = Telemetry(self.folder)
        cohort, algorithm = self.peer.prepare()
        identity, limit = self.network(self.peer)
        io = self.peer.attach(self.peer.hello(cohort, 0), identity, limit)
        self.whole = _Attendance(self.peer, self.telemetry, cohort, algorithm, io, identity, None, 0, None,
                                 PastExchanges(), Recording(self.peer.folder, 0, 0, self.telemetry))
        self.phase: LastPhase = self.whole.last_phase
        row = torch.linspace(-1, 1, cohort.schema.size, dtype=torch.float64)[None]
        self.outcome = Outcome(Consensus(row, 1e-9, 7, (), True), CALL, cohort.sums()[0])

    @staticmethod
    def network(peer: Peer) -> tuple[Any, int]:
        from p2pser.peer.identity import identify

        return identify(peer.config, peer.topology, peer.me), 1 << 20

    def close(self) -> None:
        self.telemetry.close()
        self.whole.io.close("failed", 0)
        self.peer.folder.release()

    def again(self) -> Ending:
        return self.crew.peer(self.config, 1).run()

    def files(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.folder)): path.read_bytes() for name in ("model", "personal")
                for path in sorted((self.folder / name).glob("*"))}


@pytest.fixture
def last(crew: Crew) -> Iterator[Callable[..., Last]]:
    made: list[Last] = []

    def make(name: str, *settings: str) -> Last:
        made.append(Last(crew, name, *settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_peer_killed_at_any_write_of_its_end_ends_with_the_same_model(last: Callable[..., Last],
                                                                      disk: FaultyDisk) -> None:
    whole = last("whole")
    disk.watch(whole.folder)
    summary = whole.phase.conclude(whole.outcome, 3.0)
    writes = disk.count
    disk.off()
    reference = whole.files()
    assert len(reference) == 4
    assert writes > 20
    kept = 0
    for k in range(1, writes + 1):
        one = last(f"killed{k}")
        disk.watch(one.folder, lambda count, k=k: Killed() if count >= k else None)
        with pytest.raises(Killed):
            one.phase.conclude(one.outcome, 3.0)
        disk.off()
        one.close()
        if one.phase.kept() is None:
            assert not (one.folder / "model").exists(), k  # its neighbours or its last checkpoint have the model
            continue
        kept += 1
        ending = one.again()
        assert ending.exit_code == 0
        assert one.files() == reference, k
        assert {**ending.summary, "out": "", "model": "", "personal": ""} == {
            **summary, "out": "", "model": "", "personal": ""}, k
        assert json.loads((one.folder / "finished.json").read_text()) == ending.summary
    assert kept > writes / 2


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_takes_no_write_for_a_while_costs_time_only(last: Callable[..., Last], disk: FaultyDisk,
                                                                monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    whole = last("whole")
    disk.watch(whole.folder)
    whole.phase.conclude(whole.outcome, 3.0)
    writes = disk.count
    disk.off()
    pauses: list[float] = []
    monkeypatch.setattr(LastPhase, "_pause", lambda self, seconds: (pauses.append(seconds), disk.off()))
    for k in range(1, writes + 1):
        one = last(f"full{k}")
        disk.watch(one.folder, lambda count, k=k: OSError(code, os.strerror(code)) if count >= k else None)
        before = len(pauses)
        one.phase.conclude(one.outcome, 3.0)
        disk.off()
        assert one.files() == whole.files(), k
        if len(pauses) > before:
            assert [event["kind"] for event in read(one.folder / "events.jsonl") if "written" in event["kind"]] == [
                "unwritten", "written"], k
    assert len(pauses) > writes / 2
    assert any("cannot write" in sentence and os.strerror(code) in sentence for sentence in whole.crew.said)


def test_a_disk_that_stays_full_ends_the_run_with_a_sentence_and_the_same_command_ends_it(
        last: Callable[..., Last], disk: FaultyDisk) -> None:
    one = last("full")
    now = [100.0]
    one.phase._disk._clock = lambda: now[0]
    one.phase._disk._pause = lambda seconds: now.__setitem__(0, now[0] + seconds)
    disk.watch(one.folder, lambda count: OSError(errno.ENOSPC, "No space left on device")
               if count > 3 else None)
    with pytest.raises(P2PSERError, match=r"could not write .* for 60 s: No space .*bytes are needed") as caught:
        one.phase.conclude(one.outcome, 3.0)
    assert caught.value.exit_code == 1
    assert 155 <= now[0] <= 165
    disk.off()
    one.phase.conclude(one.outcome, 3.0)
    one.close()
    assert one.again().finished


def test_a_peer_that_is_stopped_while_it_waits_for_room_says_so_with_exit_code_1(
        last: Callable[..., Last], disk: FaultyDisk) -> None:
    one = last("stopped")
    one.peer.interrupt()
    disk.watch(one.folder, lambda count: OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(Interrupted):
        one.phase.conclude(one.outcome, 3.0)
    with pytest.raises(P2PSERError, match=r"leaves .* without a model.*the same command ends the run") as caught:
        one.phase.leave()
    assert caught.value.exit_code == 1


def test_a_folder_that_an_older_version_left_between_model_and_summary_is_ended(last: Callable[..., Last]) -> None:
    one = last("old")
    one.phase.conclude(one.outcome, 3.0)
    reference = one.files()
    (one.folder / "finished.json").unlink()
    (one.folder / "model" / "card.json").write_text("{}")
    one.close()
    assert one.again().finished
    assert one.files() == reference


def test_a_peer_killed_while_it_took_another_model_has_a_model_again(last: Callable[..., Last]) -> None:
    one = last("killed")
    one.phase.conclude(one.outcome, 3.0)
    reference = one.files()
    (one.folder / "model").rename(one.folder / "model-replaced")
    one.close()
    assert one.again().finished
    assert one.files() == reference


def test_a_former_model_is_set_aside_once_and_when_the_disk_takes_it(
        last: Callable[..., Last], disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(LastPhase, "_pause", lambda self, seconds: (pauses.append(seconds), disk.off()))
    one = last("replaced")
    one.phase.conclude(one.outcome, 3.0)
    former = (one.folder / "model" / "model.safetensors").read_bytes()
    disk.watch(one.folder, lambda count: OSError(errno.EROFS, os.strerror(errno.EROFS)))
    final = replace(one.outcome.final, rows=one.outcome.final.rows + 1)
    one.phase.replace(replace(one.outcome, final=final), 3.0)
    assert len(pauses) == 1
    assert (one.folder / "model-replaced" / "model.safetensors").read_bytes() == former
    (one.folder / "model").rename(one.folder / "elsewhere")
    one.phase.replace(one.outcome, 3.0)
    assert (one.folder / "model" / "model.safetensors").read_bytes() == former
    assert (one.folder / "model-replaced" / "model.safetensors").read_bytes() == former


def taken(one: Last) -> Outcome:
    """The outcome that a neighbour hands over in place of the peer's own."""
    return Outcome(Consensus(one.outcome.final.rows * 2, 1e-9, 9, (), True), CALL, one.outcome.sums, (0, 2))


def test_a_peer_killed_at_any_write_while_it_takes_another_model_ends_with_one_of_both(last: Callable[..., Last],
                                                                                      disk: FaultyDisk) -> None:
    for k in itertools.count(1):
        one = last(f"killed{k}")
        one.phase.conclude(one.outcome, 3.0)
        ends = {(float(end.row[0]), end.final.exchanges) for end in (one.outcome, taken(one))}
        disk.watch(one.folder, lambda count, k=k: Killed() if count >= k else None)
        try:
            one.phase.replace(taken(one), 3.0)
            break
        except Killed:
            disk.off()
        one.close()
        ending = one.again()
        assert ending.finished
        assert (float(one.crew.row(one.config, 1)[0]), ending.summary["consensus_exchanges"]) in ends, k
        assert json.loads((one.folder / "finished.json").read_text()) == ending.summary
    assert k > 20


def test_a_peer_that_is_stopped_before_it_has_written_another_model_says_so_with_exit_code_1(
        last: Callable[..., Last], disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: LastPhase, seconds: float) -> None:
        raise Interrupted

    def offered(self: LastPhase, end: Outcome, *, ask: bool) -> None:
        disk.watch(one.folder, lambda count: OSError(errno.ENOSPC, "No space left on device"))
        raise ModelTaken(taken(one))

    monkeypatch.setattr(LastPhase, "_pause", interrupted)
    monkeypatch.setattr(LastPhase, "hand_over", offered)
    one = last("stopped")
    summary = one.phase.conclude(one.outcome, 3.0)
    with pytest.raises(P2PSERError, match="without a model") as caught:
        one.whole.run(summary)
    assert caught.value.exit_code == 1


def test_each_model_is_evaluated_once_and_a_calibration_changes_its_part_of_the_card_only(
        last: Callable[..., Last], monkeypatch: pytest.MonkeyPatch) -> None:
    one = last("once", "training.held_out=0.25")
    evaluate, rows = Cohort.evaluate, list[torch.Tensor]()

    def counted(self: Cohort, row: torch.Tensor, peer: int | None = None) -> Outputs:
        rows.append(row)
        return evaluate(self, row, peer)

    monkeypatch.setattr(Cohort, "evaluate", counted)
    summary = one.phase.conclude(one.outcome, 3.0)
    before = json.loads((one.folder / "model" / "card.json").read_text())
    found = Calibrated("9 speakers whom 3 peers held out of training, too few for figures", 1.5)
    session: Any = SimpleNamespace(ended=True, calibrate=lambda: found)
    one.whole.io.start()
    whole = one.phase.calibrate(one.outcome, summary, session)
    assert len(rows) == 2  # the common model and the personal one
    card = json.loads((one.folder / "model" / "card.json").read_text())
    assert before["training"]["calibration"].startswith("none: this peer was stopped")
    assert card == {**before, "temperature": 1.5, "training": {**before["training"], "calibration": found.how}}
    assert list(card["training"]) == list(before["training"])
    assert card["tested"]["uar"] == whole["uar"]
    assert json.loads((one.folder / "finished.json").read_text()) == whole == {
        **summary, "calibration": found.how, "temperature": 1.5}


def test_files_of_a_peer_are_for_its_user_only(last: Callable[..., Last]) -> None:
    one = last("private")
    one.phase.conclude(one.outcome, 3.0)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (one.folder, *one.folder.rglob("*"))}
    assert {oct(mode) for path, mode in modes.items() if path.is_dir()} == {"0o700"}, modes
    assert {oct(mode) for path, mode in modes.items() if path.is_file()} == {"0o600"}, modes


def ended(final: Consensus, peers: int) -> dict[str, Any]:
    return account(peers, final)


def test_the_account_counts_who_agreed() -> None:
    row = torch.ones(1, 2, dtype=torch.float64)
    lost = ended(Consensus(row, 1e-9, 7, (1, 4, 5), True), 6)
    assert (lost["agreed"], lost["took_part"], lost["peers"], lost["peers_dead"]) == (3, 3, 6, [1, 4, 5])
    assert in_words(lost) == "3 of 6 peers agreed"
    split = account(6, Consensus(row, 1e-9, 7, (1, 4, 5), True), [4], [0, 1])
    assert (split["agreed"], split["took_part"], split["peers_dead"], split["peers_apart"]) == (4, 4, [5], [1])
    apart = ended(Consensus(row, 0.1, 2000, (), False), 6)
    assert (apart["agreed"], apart["took_part"], in_words(apart)) == (0, 6, "0 of 6 peers agreed")
    own = ended(no_consensus(row, (2,)), 6)
    assert (own["agreed"], own["took_part"]) == (None, 5)
    assert in_words(own) == "5 of 6 peers took part until the end"
    assert [complete(one) for one in (lost, apart, own)] == [False, False, False]
    assert complete(ended(Consensus(row, 1e-9, 7, (), True), 6))
    assert complete(ended(no_consensus(row), 6))
    assert math.isnan(no_consensus(row).distance)


@pytest.mark.parametrize(("final", "words"), [
    (Consensus(torch.ones(1, 1), 1e-9, 7, (0, 2), True), ("PEER 1: 1 OF 3 PEERS AGREED", "peers 0, 2 learned",
                                                       "start peers 0, 2 again with the same command")),
    (Consensus(torch.ones(1, 1), 0.25, 40, (), False), ("PEER 1: 0 OF 3 PEERS AGREED", "after 40 exchanges",
                                                      "a difference of 2.5e-01", "gossip.max_consensus_exchanges")),
    (no_consensus(torch.ones(1, 1), (2,)), ("PEER 1: 2 OF 3 PEERS TOOK PART", "start peer 2 again")),
], ids=["lost", "apart", "own"])
def test_an_end_without_the_others_is_loud_and_has_exit_code_3(last: Callable[..., Last], final: Consensus,
                                                               words: tuple[str, ...]) -> None:
    one = last("loud")
    outcome = Outcome(Consensus(one.outcome.final.rows, final.distance, final.exchanges, final.dead, final.converged,
                                final.sought), CALL, one.outcome.sums)
    ending = Ending(True, one.phase.conclude(outcome, 3.0))
    assert ending.exit_code == 3
    said = [sentence for sentence in one.crew.said if sentence.startswith("PEER 1")]
    assert len(said) == 1
    for each in words:
        assert each in said[0]
    card = json.loads((one.folder / "model" / "card.json").read_text(encoding="utf-8"))
    assert card["training"]["agreed"] == ending.summary["agreed"]
    events = [event for event in read(one.folder / "events.jsonl") if event["kind"] == "incomplete"]
    assert [event["missing"] for event in events] == [list(final.dead)]
