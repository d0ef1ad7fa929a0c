"""``p2pser peer`` as it is typed: signals, exit codes, and what it prints."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from commands import Command

from p2pser.base.errors import ConfigError, TopologyError
from p2pser.cli.main import cli
from p2pser.cli.peer import peer
from p2pser.network.keys import make, write_key_pair
from p2pser.peer.launch import free_base_port
from p2pser.peer.view import look

PATIENCE = 250
"""Longest time of a command on a busy machine [s]."""


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    time = np.arange(8000) / 16000
    for emotion, pitch in (("calm", 120), ("glad", 240)):
        folder = tmp_path / "clips" / emotion / "a"
        folder.mkdir(parents=True)
        for k in range(3):
            soundfile.write(folder / f"{k}.wav", 0.3 * np.sin(2 * np.pi * (pitch + 7 * k) * time), 16000)
    return tmp_path / "clips"


class Terminal:
    """Peers of one chain, each as its own command."""

    def __init__(self, clips: Path, out: Path) -> None:
        self.running: list[Command] = []
        self.port = free_base_port(3)
        """The first peer's; the third one is free for its metrics."""
        self.call = ["peer", "--topology", "chain", "--peers", "2", "--data", str(clips), "--out", str(out),
                      "--rounds", "2", "--set", "model.hidden=[4]", "--set", "network.serve_after=0.5",
                      "--set", f"network.base_port={self.port}"]
        self.out = out

    def start(self, me: int, *more: str) -> Command:
        one = Command(*self.call, "--id", str(me), *more)
        self.running.append(one)
        return one

    def close(self) -> None:
        for one in self.running:
            one.close()


@pytest.fixture
def terminal(clips: Path, tmp_path: Path) -> Iterator[Terminal]:
    one = Terminal(clips, tmp_path / "runs")
    yield one
    one.close()


def wait_for(one: Command, words: str) -> None:
    for line in one.stderr:
        if words in line:
            return
    pytest.fail(f"{words!r} was not said")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_waits_is_no_failure(terminal: Terminal, number: signal.Signals) -> None:
    one = terminal.start(0)
    wait_for(one, "waiting for peer 1")
    one.send_signal(number)
    out, said = one.communicate(timeout=PATIENCE)
    assert one.returncode == 0
    assert "the same command resumes" in said
    assert "Traceback" not in said
    assert out == ""


def test_two_terminals_train_on_their_own_clips_and_say_where_the_model_is(terminal: Terminal) -> None:
    ones = [terminal.start(0), terminal.start(1, "--json")]
    (plain, said), (document, _) = (one.communicate(timeout=PATIENCE) for one in ones)
    assert [one.returncode for one in ones] == [0, 0], said
    model = terminal.out / "run" / "peer-0" / "model"
    assert plain.splitlines()[0] == f"model: {model}"
    assert f"next: p2pser predict {model} RECORDING.wav, or p2pser evaluate {model} --data FOLDER" in said.splitlines()
    assert "peer 0, round 2 of 2: loss " in said
    assert model.is_dir()
    summary = json.loads(document)
    assert (summary["peer"], summary["finished"], summary["peers_dead"]) == (1, True, [])
    again = terminal.start(0, "--json")
    out, said = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0
    assert json.loads(out)["peer"] == 0
    assert "--fresh" in said
    shown = CliRunner().invoke(cli, ["status", str(terminal.out / "run")])
    assert shown.exit_code == 0
    assert shown.output.count("no, it has finished: 2 of 2 peers agreed") == 2
    problems = [{event["kind"] for event in one.problems} for one in look(terminal.out / "run").peers]
    assert set.union(*problems) <= {"paused", "suspect"}  # a busy machine may stop a process for seconds
    assert shown.output.count("what went wrong nothing") == problems.count(set())


def test_a_running_peer_is_scraped_and_logs_json(terminal: Terminal) -> None:
    pytest.importorskip("prometheus_client", reason="needs the extra metrics")
    where = f"http://127.0.0.1:{terminal.port + 2}"
    first = terminal.start(0, "--rounds", "100000", "--metrics", where.rpartition("/")[2])
    wait_for(first, f"waiting for peer 1 (tcp://127.0.0.1:{terminal.port + 1})")
    with urllib.request.urlopen(f"{where}/health", timeout=PATIENCE) as answer:
        health = json.loads(answer.read())
    assert (answer.status, health["gets_on"], health["listens"], health["round"]) == (200, True, True, 0)
    second = terminal.start(1, "--rounds", "100000", "--log-format", "json")
    found: dict[str, float] = {}
    until = time.monotonic() + PATIENCE
    alive = 'p2pser_neighbours{state="alive"}'  # a busy machine may stop the other for a while
    while (found.get("p2pser_rounds_done", 0) < 6 or found[alive] < 1) and time.monotonic() < until:
        with urllib.request.urlopen(f"{where}/metrics", timeout=PATIENCE) as answer:
            lines = answer.read().decode().splitlines()
        found = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}
    assert found["p2pser_rounds_done"] >= 6
    assert (found["p2pser_rounds"], found[alive]) == (100000, 1)
    assert found['p2pser_rows_received_total{neighbour="1"}'] >= 6
    assert found['p2pser_bytes_sent_total{neighbour="1"}'] > found['p2pser_payload_sent_total{neighbour="1"}'] > 0
    assert found["p2pser_checkpoint_age_seconds"] >= 0
    for one in (second, first):
        one.send_signal(signal.SIGTERM)
    (_, logged), _ = (one.communicate(timeout=PATIENCE) for one in (second, first))
    records = [json.loads(line) for line in logged.splitlines()]
    assert {one["reporter"] for one in records} == {1}
    assert {"listening", "up", "say", "round", "left"} <= {one["kind"] for one in records}
    assert records[-1]["sentence"] == f"results: {terminal.out / 'run' / 'peer-1'}"


def test_a_run_without_a_declared_peer_ends_with_exit_code_3(terminal: Terminal) -> None:
    first = terminal.start(0, "--peers", "3")
    wait_for(first, "waiting for peer 1")  # which waits for peer 2 no longer than this, and needs peer 0 until then
    ones = [first, terminal.start(1, "--peers", "3", "--start-timeout", "4", "--json")]
    (plain, said), (document, loud) = (one.communicate(timeout=PATIENCE) for one in ones)
    assert [one.returncode for one in ones] == [3, 3], said + loud
    assert plain.splitlines()[-1] == "2 of 3 peers agreed"
    assert "PEER 0: 2 OF 3 PEERS AGREED" in said
    assert "start peer 2 again with the same command" in said
    summary = json.loads(document)
    assert (summary["agreed"], summary["took_part"], summary["peers"], summary["peers_dead"]) == (2, 2, 3, [2])
    card = json.loads((terminal.out / "run" / "peer-1" / "model" / "card.json").read_text(encoding="utf-8"))
    assert (card["training"]["agreed"], card["training"]["peers"]) == (2, 3)
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full", "wb") as full, os.fdopen(writer, "wb") as unread:  # the outcome cannot be printed
        for output in (full, unread):
            again = subprocess.run([sys.executable, "-m", "p2pser", *terminal.call, "--id", "0", "--peers", "3"],
                                   stdout=output, stderr=subprocess.PIPE, timeout=PATIENCE, check=False, text=True)
            assert again.returncode == 3, again.stderr
            assert "results: " in again.stderr
            assert "Traceback" not in again.stderr


def test_check_says_that_nobody_answers(terminal: Terminal) -> None:
    one = terminal.start(0, "--check", "--json")
    out, _ = one.communicate(timeout=PATIENCE)
    assert one.returncode == 2
    report = json.loads(out)
    assert report["fits"] is False
    line = report["neighbours"][0]
    assert line["state"] == "not started"
    assert "no answer: not started: the machine 127.0.0.1 answers, but no program listens" in line["sentence"]
    assert [one["fits"] for one in report["site"]] == [True] * len(report["site"])
    assert {one["sentence"].partition(":")[0] for one in report["site"]} >= {
        "clips", "emotions", "clock", "disk", "address", "port"}
    assert not (terminal.out / "run" / "peer-0" / "metrics.jsonl").exists()


def test_check_of_one_that_cannot_be_dialled_is_from_its_own_side(terminal: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text("graph: {kind: chain, peers: 2}\npeers: {1: {address: none}}\n", encoding="utf-8")
    out, said = terminal.start(0, "--check", "--json", "--topology", str(path)).communicate(timeout=PATIENCE)
    line = json.loads(out)["neighbours"][0]
    assert (line["address"], line["answers"], line["fits"]) == (None, False, False), said
    assert "peer 1 cannot be dialled, it dials us" in line["sentence"]
    waiting = terminal.start(0, "--topology", str(path))
    wait_for(waiting, "waiting for peer 1")
    one = terminal.start(1, "--check", "--json", "--topology", str(path))
    out, said = one.communicate(timeout=PATIENCE)
    assert one.returncode == 0, said
    assert json.loads(out)["fits"] is True


def test_two_that_only_check_see_each_other_and_a_taken_port_is_named(terminal: Terminal) -> None:
    waits = ("--check", "--json", "--start-timeout", "100")
    checks = [terminal.start(me, *waits) for me in (0, 1)]
    out = [one.communicate(timeout=PATIENCE) for one in checks]
    assert [one.returncode for one in checks] == [0, 0], out
    for report in (json.loads(document) for document, _ in out):
        (line,) = report["neighbours"]
        assert (report["fits"], line["fits"], line["state"]) == (True, True, "fits")
        assert line["sentence"].endswith("; it only checks too")
    with socket.create_server(("127.0.0.1", terminal.port + 1)):
        one = terminal.start(1, "--check", "--json")
        report = json.loads(one.communicate(timeout=PATIENCE)[0])
        other = terminal.start(0, "--check", "--json")
        seen = json.loads(other.communicate(timeout=PATIENCE)[0])
    assert (one.returncode, other.returncode) == (2, 2)
    (port,) = [line for line in report["site"] if not line["fits"]]
    assert f"port: the port of tcp://127.0.0.1:{terminal.port + 1} is already taken" in port["sentence"]
    assert seen["neighbours"][0]["state"] == "another program"


def test_a_check_tells_a_wrong_key(terminal: Terminal, tmp_path: Path) -> None:
    pairs = [make() for _ in range(3)]
    files = [tmp_path / f"{i}.yaml" for i in range(2)]
    for me, file in enumerate(files):
        write_key_pair(tmp_path / f"{me}.key", pairs[me])
        keys = [pairs[0].public, pairs[1].public if me == 1 else pairs[2].public]
        file.write_text("graph: {kind: chain, peers: 2}\npeers:\n" + "".join(
            f"  {i}: {{key: '{key}'}}\n" for i, key in enumerate(keys)), encoding="utf-8")
    checks = [terminal.start(me, "--check", "--json", "--start-timeout", "100", "--topology", str(files[me]), "--set",
                             f"network.secret_key={tmp_path / f'{me}.key'}") for me in (0, 1)]
    lines = [json.loads(one.communicate(timeout=PATIENCE)[0])["neighbours"][0] for one in checks]
    assert [one.returncode for one in checks] == [2, 2]
    assert [line["state"] for line in lines] == ["wrong key", "wrong key"], lines
    assert "does not hold the key of peer 1" in lines[0]["sentence"]
    assert "does not admit the key of peer 1" in lines[1]["sentence"]


def test_an_id_outside_the_graph_and_an_unknown_topology_are_named() -> None:
    with pytest.raises(ConfigError, match="has peers 0 to 7: give one of their ids"):
        CliRunner().invoke(peer, ["--id", "9", "--topology", "ring"], catch_exceptions=False)
    with pytest.raises(TopologyError, match="did you mean 'ring'"):
        CliRunner().invoke(peer, ["--id", "0", "--topology", "rign"], catch_exceptions=False)
    assert CliRunner().invoke(peer, ["--id", "-1"]).exit_code == 2
    assert CliRunner().invoke(peer, []).exit_code == 2
    assert CliRunner().invoke(peer, ["--id", "0", "--start-timeout", "0"]).exit_code == 2


def test_help_has_an_example() -> None:
    shown = CliRunner().invoke(peer, ["--help"])
    assert shown.exit_code == 0
    assert "Example: p2pser peer --id 3" in shown.output


def test_two_runs_on_one_machine_do_not_meet(terminal: Terminal) -> None:
    waiting = terminal.start(0)
    wait_for(waiting, "waiting for peer 1")
    wrong = {"another process runs this peer": (0,),
             "is already taken: another peer runs there, of this or another run": (0, "--name", "other"),
             "a run with another name (--name), or of another user, has it": (1, "--name", "third")}
    for sentence, call in wrong.items():  # in this order: the third ends the peer that is in the way of the others
        one = terminal.start(*call)
        _, said = one.communicate(timeout=PATIENCE)
        assert one.returncode == 2, said
        assert sentence in said
        assert "Traceback" not in said
    ports = f"network.base_port={free_base_port(2)}"
    beside = [terminal.start(me, "--name", "beside", "--set", ports) for me in (0, 1)]
    for one in beside:
        assert one.wait(timeout=PATIENCE) == 0, one.communicate()[1]
    # The only neighbour's port was another run's: it ends too, with the same sentence.
    assert waiting.wait(timeout=PATIENCE) == 2
    assert [path.parents[1].name for path in terminal.out.glob("*/peer-*/model")] == ["beside"] * 2
