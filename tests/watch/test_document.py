"""What the views of a run show of the files: peers, curves over the rounds, events, and a run as it was then."""

from __future__ import annotations

import fcntl
import json
from datetime import timedelta
from pathlib import Path

import pytest
from recordings import START, write

from p2pser.base.errors import ConfigError
from p2pser.peer.view import look
from p2pser.watch.document import EVENTS, POINTS, Observer, Point, sent, thinned, waits

RING = [(0, 1), (1, 2), (2, 3), (3, 0)]
LOSS = {2: [{"after": 11.5, "kind": "suspect", "peer": 3, "silence": 2.0},
            {"after": 15.5, "kind": "dead", "peer": 3, "silence": 8.0}]}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A ring of 4, whose peer 3 did 4 of 12 rounds."""
    return write(tmp_path / "pilot", RING, done={3: 4}, more=LOSS)


def test_a_finished_run(run: Path) -> None:
    shown = Observer(run).document(peer=3)
    assert (shown["run"], shown["state"], shown["live"], shown["rounds"]) == ("pilot", "killed", False, 12)
    assert shown["headline"] == "4 of 4 peers agreed, UAR 0.750 on the held-out speakers"
    assert [peer["activity"] for peer in shown["peers"]] == ["finished", "finished", "finished", "killed"]
    assert shown["peers"][2]["links"]["3"]["state"] == "lost"
    assert shown["moments"] == list(range(12))
    assert len(shown["curves"]["uar"]["all"]) == 12
    assert [done for done, _ in shown["curves"]["uar"]["own"]] == [0, 1, 2, 3]
    assert shown["curves"]["loss"]["all"][3] == Point(3, pytest.approx(0.39), 0.375, 0.405)
    assert shown["curves"]["loss"]["all"][4] == Point(4, pytest.approx(0.31), 0.3, 0.32)
    assert {point.mean for point in shown["curves"]["bytes"]["all"]} == {2000}
    assert shown["events"][0]["text"] == "has finished: 4 of 4 peers agreed"
    assert [event["text"] for event in shown["events"] if event["problem"]] == [
        "peer 3 is lost, after 8.0 s of silence", "peer 3 was silent for 2.0 s"]


@pytest.mark.parametrize(("round", "link", "last", "left"), [
    (2, "alive", "training", 18.0), (4, "alive", "killed", 14.0), (5, "silent", "killed", 12.0),
    (8, "lost", "killed", 6.0)])
def test_a_run_as_it_was_after_a_round(run: Path, round: int, link: str, last: str, left: float) -> None:
    shown = Observer(run).document(round=round)
    assert (shown["state"], shown["headline"]) == ("running", f"{round + 1} of 12 rounds are over")
    assert [peer["activity"] for peer in shown["peers"]] == ["training", "training", "training", last]
    assert shown["peers"][2]["links"]["3"]["state"] == link
    assert bool(shown["peers"][2]["waits"]) == (link != "alive")
    assert len(shown["curves"]["uar"]["all"]) == round + 1
    assert shown["moments"] == list(range(12))
    assert shown["seconds_left"] == left
    assert all(event["at"] <= shown["at"] for event in shown["events"])


def test_a_peer_that_had_not_started_yet(tmp_path: Path) -> None:
    run = write(tmp_path / "pilot", [(0, 1)], rounds=2)
    late = run / "peer-1"
    (late / "events.jsonl").write_text((late / "events.jsonl").read_text().replace("10:00:0", "10:00:4"))
    (late / "metrics.jsonl").unlink()
    assert [peer["activity"] for peer in Observer(run).document(round=0)["peers"]] == ["training", "not started"]


def test_a_peer_that_was_started_again_counts_its_bytes_from_0(tmp_path: Path) -> None:
    run = write(tmp_path / "pilot", [(0, 1)], rounds=4)
    path = run / "peer-0" / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line, total in zip(lines, (500, 900, 100, 300)):
        line["bytes_sent"] = total
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert sent(Observer(run).look().peers[0]) == [(0, 500), (1, 400), (2, 100), (3, 200)]


def test_a_round_that_lasts_tells_whom_it_waits_for_and_how_long(tmp_path: Path) -> None:
    told = [{"after": 20, "kind": "waiting", "round": 4, "sentence": "waits", "waits_for": {"1": "trains"}}]
    run = write(tmp_path / "pilot", [(0, 1), (0, 2)], done={0: 4}, more={0: told})
    peer = look(run, START + timedelta(seconds=39)).peers[0]
    assert (peer.state, peer.activity) == ("killed", "killed")
    with (run / "peer-0" / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before, peer = (look(run, START + timedelta(seconds=after)).peers[0] for after in (19.5, 39))
    assert (before.activity, before.stalled, waits(before)) == ("stalled", 10.5, ["this round has lasted 10 s so far"])
    assert (peer.activity, peer.stalled) == ("waiting", 30.0)
    assert waits(peer) == ["peer 1 at tcp://127.0.0.1:5701: connected, and trains", "this round has lasted 30 s so far"]


def test_what_is_long_is_thinned(tmp_path: Path) -> None:
    assert thinned([]) == []
    assert thinned([7]) == [7]
    many = thinned(list(range(5 * POINTS + 2)))
    assert (many[0], many[-1]) == (0, 5 * POINTS + 1)
    assert POINTS / 2 < len(many) <= POINTS + 1
    struck = [{"after": 1 + k / 1000, "kind": "struck", "peer": 1, "reason": str(k)} for k in range(2 * EVENTS)]
    shown = Observer(write(tmp_path / "pilot", [(0, 1)], done={0: 1}, more={0: struck})).document()
    assert len(shown["events"]) == EVENTS


def test_numbers_of_files_are_not_believed(tmp_path: Path) -> None:
    run = write(tmp_path / "a\x1b[2Jb", [(0, 1)], rounds=3)
    with (run / "peer-0" / "metrics.jsonl").open("a") as file:
        for line in ('"round": 1e400, "loss": 1', '"round": 5, "loss": NaN, "uar": "x", "bytes_sent": 1' + "0" * 400,
                     '"round": -1', '"round": 4, "loss": [1], "distance": -Infinity, "uar": true'):
            file.write(f'{{"at": "2026-01-01T11:00:00+00:00", {line}}}\n')
    with (run / "peer-0" / "events.jsonl").open("a") as file:
        for line in ('"kind": "listening", "neighbours": {"x": 1, "²": 2, "1": ["\\ud800"]}',
                     '"kind": "dead", "peer": 1e9', '"kind": "\\ud800<b>", "reason": {"a": 1}', '"kind": ["up"]',
                     '"kind": "finished", "agreed": 3'):
            file.write(f'{{"at": "2026-01-01T11:00:01+00:00", {line}}}\n')
        file.write('{"at": "9999-12-31T23:59:59-10:00", "kind": "dead", "peer": 1}\n')
    shown = Observer(run).document(peer=0)
    json.dumps(shown, allow_nan=False).encode()
    assert shown["run"] == "a [2Jb"
    assert max(point[0] for point in shown["curves"]["loss"]["all"]) == 2
    assert shown["peers"][0]["links"] == {"1": {"state": "not met", "since": "2026-01-01T11:00:01+00:00", "reason": ""}}


def test_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no peer's folder"):
        Observer(tmp_path).document()
