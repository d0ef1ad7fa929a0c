"""What the folders of a run show of it: running, finished, stopped, failed or killed peers, and ``p2pser status``."""

from __future__ import annotations

import fcntl
import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner

from p2pser.base.errors import ConfigError
from p2pser.cli.main import cli
from p2pser.peer.telemetry import Telemetry
from p2pser.peer.view import look, run_folder, run_folders


def peer_folder(out: Path, peer: int, rounds: int = 10, done: int = 4) -> Path:
    """The folder of a peer that has met neighbour 7, not 8, lost 9, and done some rounds, 2 s each."""
    folder = out / "pilot" / f"peer-{peer}"
    with Telemetry(folder) as telemetry:
        telemetry.event("dead", peer=7, silence=8.0)  # before its last start
        telemetry.event("listening", endpoint="tcp://127.0.0.1:1", incarnation=3,
                        neighbours={7: "tcp://a:7", 8: "tcp://b:8", 9: None})
        for j in (7, 9):
            telemetry.event("up", peer=j, incarnation=0)
        telemetry.event("refused", peer=9, reason="training.lr differs\x1b[2J", by_us=True)
    (folder / "run.json").write_text(json.dumps({"settings": {"training.rounds": rounds}}))
    (folder / "lock").touch()
    lines = [{"at": f"2026-01-01T00:00:{2 * k:02}.000+00:00", "peer": peer, "round": k, "loss": 1.5 - k / 10,
              "uar": (0.25, None, 0.5, None)[k % 4]} for k in range(done)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_peer_that_runs_holds_its_lock(tmp_path: Path) -> None:
    folder = peer_folder(tmp_path, 3)
    with (folder / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (peer,) = look(folder).peers
        assert (peer.peer, peer.state, peer.round, peer.rounds, peer.stalled) == (3, "running", 4, 10, None)
        assert (peer.round_seconds, peer.seconds_left) == (2.0, 12.0)
        assert (peer.newest("uar"), peer.newest("loss")) == (0.5, 1.2)
        assert {j: link.state for j, link in peer.links.items()} == {7: "alive", 8: "not met", 9: "refused"}
        assert list(peer.waits_for) == [8, 9]
        assert peer.waits_for[8].startswith("peer 8 at tcp://b:8: not heard of yet")
        assert peer.waits_for[9].endswith("(training.lr differs [2J)")
        assert [event["kind"] for event in peer.problems] == ["refused"]
        shown = CliRunner().invoke(cli, ["status", str(folder)])
    assert shown.exit_code == 0
    assert "4 of 10 rounds are over" in shown.output
    assert "UAR 0.500 on the held-out speakers (0.250 after" in shown.output
    assert "about 12 s for 6 rounds (2.00 s each)" in shown.output
    assert "training.lr differs [2J" in shown.output
    assert "\x1b" not in shown.output


@pytest.mark.parametrize(("told", "round", "dead_after", "lasts", "whom"), [
    (4, 4, 20.0, "3 h 0 min", "peer 7 at tcp://a:7: connected, and it trains in round 4"),
    (4, 4, 12000.0, None, "peer 8 at tcp://b:8: not heard of yet"),  # the round is shorter than dead_after
    (3, 4, 20.0, "3 h 0 min", "peer 8 at tcp://b:8: not heard of yet"),  # whom it waited for in the round before
])
def test_a_stalled_round_is_noticed_and_whom_it_waits_for(tmp_path: Path, told: int, round: int,
                                                          dead_after: float, lasts: str | None, whom: str) -> None:
    folder, now = tmp_path / "pilot" / "peer-3", datetime.now(timezone.utc)
    peer_folder(tmp_path, 3)
    events = [{"at": (now - timedelta(hours=9)).isoformat(), "kind": "listening", "dead_after": dead_after,
               "neighbours": {"7": "tcp://a:7", "8": "tcp://b:8"}},
              {"at": now.isoformat(), "kind": "up", "peer": 7},
              {"at": now.isoformat(), "kind": "waiting", "round": told, "waits_for": {"7": "it trains in round 4"}}]
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    lines = [{"at": (now - timedelta(seconds=10801 + 2 * k)).isoformat(), "round": round - 1 - k, "loss": 1.0}
             for k in reversed(range(round))]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with (folder / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shown = CliRunner().invoke(cli, ["status", str(folder)]).output
    assert ("round 5 has lasted" in shown) == (lasts is not None)
    assert f"round 5 has lasted {lasts}" in shown or lasts is None
    assert whom in shown
    assert ("it trains in round 4" in shown) == ("it trains" in whom)


@pytest.mark.parametrize(("left", "state", "words"), [
    (None, "killed", "it was killed"), ("interrupted", "interrupted", "it was stopped"),
    ("failed", "failed", "it failed")])
def test_a_peer_that_ended_early_says_how(tmp_path: Path, left: str | None, state: str, words: str) -> None:
    folder = peer_folder(tmp_path, 0)
    if left is not None:
        with Telemetry(folder) as telemetry:
            telemetry.event("left", reason=left, problem="the hub is lost")
    (peer,) = look(folder).peers
    assert (peer.state, peer.waits_for, peer.seconds_left) == (state, {}, None)
    shown = CliRunner().invoke(cli, ["status", str(folder)])
    assert shown.exit_code == 1
    assert words in shown.output
    assert ("this peer has left: the hub is lost" in shown.output) == (left is not None)
    assert ("it ended without a last word" in shown.output) == (left is None)


def test_a_run_shows_all_its_peers_and_one_that_has_finished_its_end(tmp_path: Path) -> None:
    for peer in (10, 2):
        folder = peer_folder(tmp_path, peer)
        (folder / "finished.json").write_text(json.dumps({
            "finished": True, "uar": 0.625, "model": "m", "peers": 3, "took_part": 2, "agreed": 2}))
    (tmp_path / "pilot" / "peer-2" / "model").mkdir()
    run = look(tmp_path / "pilot")
    assert (run.name, [peer.peer for peer in run.peers]) == ("pilot", [2, 10])
    shown = CliRunner().invoke(cli, ["status", str(tmp_path / "pilot"), "--json"])
    assert shown.exit_code == 0
    plain = json.loads(shown.output)["peers"][1]
    assert (plain["peer"], plain["state"]) == (10, "finished")
    assert plain["links"] == {"7": "alive", "8": "not met", "9": "refused"}
    shown = CliRunner().invoke(cli, ["status", str(tmp_path / "pilot")])
    ends = [line.partition("; ")[2] for line in shown.output.splitlines() if "finished: 2 of 3 peers" in line]
    assert ends == [f"model: {tmp_path / 'pilot' / 'peer-2' / 'model'}",
                    f"model: {tmp_path / 'pilot' / 'peer-10' / 'model'}, which has been removed"]
    assert "UAR 0.625" in shown.output


def test_times_of_the_last_start_are_those_of_its_events(tmp_path: Path) -> None:
    before = datetime.now(timezone.utc)
    (peer,) = look(peer_folder(tmp_path, 1)).peers
    assert peer.since is not None
    assert (peer.since - before).total_seconds() > -0.002
    assert len(peer.events) == 4


@pytest.mark.parametrize("content", [
    b"\xff{\n", b"[]\n", b'{"settings": [], "uar": "x", "round": "y"}\n', b"[" * 100_000])
@pytest.mark.parametrize("name", ["run.json", "finished.json", "metrics.jsonl", "events.jsonl"])
def test_a_damaged_file_costs_only_itself(tmp_path: Path, name: str, content: bytes) -> None:
    (peer_folder(tmp_path, 0) / name).write_bytes(content)
    peer_folder(tmp_path, 1)
    shown = CliRunner().invoke(cli, ["status", str(tmp_path / "pilot")])
    assert shown.exit_code == 1
    assert isinstance(shown.exception, SystemExit)
    assert shown.output.count("is it running   no, it was killed") == 2


@pytest.mark.parametrize("name", ["run.json", "finished.json", "metrics.jsonl", "events.jsonl", "lock"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    file = peer_folder(tmp_path, 0) / name
    file.unlink(missing_ok=True)
    os.mkfifo(file)
    peer_folder(tmp_path, 1)
    shown = CliRunner().invoke(cli, ["status", str(tmp_path / "pilot")])
    assert isinstance(shown.exception, SystemExit)
    assert shown.exit_code == 1
    assert shown.output.count("is it running   no, it was killed") == 2


def test_a_damaged_line_of_events_costs_only_itself(tmp_path: Path) -> None:
    folder = peer_folder(tmp_path, 0)
    with (folder / "events.jsonl").open("ab") as file:
        file.write(b'garbage\n{"kind": "dead", "at": 5}\n'
                   b'{"kind": "dead", "at": "2026-01-01T00:00:00+00:00", "peer": "x", "silence": "long"}\n'
                   b'{"kind": ["up"], "at": "2026-01-01T00:00:01+00:00", "peer": [1]}\n')
    shown = CliRunner().invoke(cli, ["status", str(folder)])
    assert "peer x is lost, after some time of silence" in shown.output
    assert "peer 9: not admitted" in shown.output


def test_a_folder_that_was_moved_names_its_own_model(tmp_path: Path) -> None:
    folder = peer_folder(tmp_path, 0)
    (folder / "finished.json").write_text(json.dumps({
        "model": str(folder / "model"), "out": str(folder), "peers": 1, "took_part": 1, "agreed": 1}))
    moved = folder.parent.rename(tmp_path / "backup") / "peer-0"
    (peer,) = look(moved).peers
    assert peer.summary == {"model": str(moved / "model"), "out": str(moved), "peers": 1, "took_part": 1, "agreed": 1}


def test_a_peer_whose_command_ended_early_was_not_killed(tmp_path: Path) -> None:
    """A peer reports a wrong file after it has locked the folder, and before it listens."""
    folder = tmp_path / "pilot" / "peer-0"
    folder.mkdir(parents=True)
    (folder / "lock").touch()
    shown = CliRunner().invoke(cli, ["status", str(folder)])
    assert (shown.exit_code, look(folder).peers[0].state) == (1, "not started")
    assert "no, it has never listened to its neighbours" in shown.output
    with (folder / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shown = CliRunner().invoke(cli, ["status", str(folder)])
    assert (shown.exit_code, "yes; it reads its recordings" in shown.output) == (0, True)


def test_the_newest_run_is_found_where_peer_and_accept_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sites = [tmp_path / name for name in ("", "pilot-peer-1", "peer-2")]  # of p2pser peer, and of accept, with --out
    runs = [peer_folder(site / "runs", 1).parent for site in sites]
    for age, run in enumerate(runs):
        os.utime(run / "peer-1" / "events.jsonl", (1e9 - age, 1e9 - age))
    assert run_folders(tmp_path) == runs
    assert [run_folder(site) for site in (*sites, *(run.parent for run in runs))] == [*runs, *runs]
    assert [run_folder(place) for place in (runs[1], runs[1] / "peer-1")] == [runs[1], runs[1] / "peer-1"]
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(cli, ["status"])
    assert "run pilot, peer 1 (runs/pilot/peer-1)" in shown.output


def test_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run in"):
        run_folder(tmp_path)
    with pytest.raises(ConfigError, match="there is no folder"):
        run_folder(tmp_path / "away")
    shown = CliRunner().invoke(cli, ["status", str(tmp_path)])
    assert isinstance(shown.exception, ConfigError)
