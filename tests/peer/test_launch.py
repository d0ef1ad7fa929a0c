"""Local peers: real processes from a forkserver, heard through pipes, dying with whoever launched them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile

from p2pser.base.errors import ConfigError, P2PSERError
from p2pser.config import Config
from p2pser.graph.spec import load
from p2pser.peer import launch
from p2pser.peer.launch import LocalPeers, free_base_port


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder of tones: two emotions, two speakers."""
    time = np.arange(8000) / 16000
    for emotion, pitch in (("calm", 120), ("glad", 240)):
        for speaker in ("a", "b"):
            folder = tmp_path / "clips" / emotion / speaker
            folder.mkdir(parents=True)
            for k in range(2):
                tone = 0.3 * np.sin(2 * np.pi * (pitch + 7 * k) * time) + 0.1 * np.sin(4 * np.pi * pitch * time)
                soundfile.write(folder / f"{k}.wav", tone, 16000)
    return tmp_path / "clips"


def configured(tmp_path: Path, clips: Path, *settings: str) -> Config:
    return Config().with_settings([
        "corpus.name=folder", f"corpus.data={clips}", "corpus.split=none", "model.hidden=[4]", "training.rounds=2",
        f"peer.out={tmp_path / 'runs'}", f"network.base_port={free_base_port(2)}", *settings])


def test_peers_run_and_tell_until_they_are_gone(tmp_path: Path, clips: Path) -> None:
    with LocalPeers(configured(tmp_path, clips), load("chain", peers=2)) as peers:
        pids = {peers.pid(0), peers.pid(1)}
        records = list(peers.records())
        peers.kill(0, 0)  # no error, though it has ended
    assert len(pids) == 2
    for i in (0, 1):
        own = [one for one in records if one["reporter"] == i]
        assert [one["round"] for one in own if "kind" not in one] == [0, 1]
        assert [one["kind"] for one in own if one.get("kind") in ("ended", "gone", "failed")] == ["ended", "gone"]
        assert own[-1]["exit_code"] == 0
        assert any(one.get("kind") == "sketch" and len(one["sketch"]) > 1 for one in own)
        assert next(one for one in own if one.get("kind") == "ended")["summary"]["finished"]


THREE_PEERS = """
import sys
from p2pser.config import Config
from p2pser.graph.spec import load
from p2pser.peer.launch import LocalPeers

if __name__ == "__main__":
    with LocalPeers(Config.model_validate_json(sys.argv[1]), load("ring", peers=3)) as peers:
        sys.exit(sum(record.get("kind") == "ended" for record in peers.records()) != 3)
"""
UNUSED = ("scipy", "pandas", "matplotlib", "sklearn", "librosa", "rich")
"""Packages that no peer of a plain run uses: they would take time and memory of all."""


def imports(*arguments: str) -> Counter[str]:
    """Return how many times each module is imported by a Python process and its children."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, timeout=240,
                          env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"})
    return Counter(line.rpartition("|")[2].strip() for line in done.stderr.splitlines()
                   if line.startswith("import time"))


def test_peers_import_nothing_that_the_forkserver_could_have_imported_for_all(tmp_path: Path, clips: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(THREE_PEERS)
    config = configured(tmp_path, clips, f"network.base_port={free_base_port(3)}")
    times = imports(str(script), config.model_dump_json(exclude_unset=True))
    preloaded = imports("-c", "import multiprocessing.resource_tracker, p2pser.peer.preload")
    assert times["torch"] == 1, "the forkserver alone imports it"
    assert not [module for module, count in times.items() if count >= 3 and module not in preloaded], "by three peers"
    assert not [module for module in preloaded if module.partition(".")[0] in UNUSED]


def test_a_failure_comes_with_its_sentence_and_exit_code(tmp_path: Path, clips: Path) -> None:
    config = configured(tmp_path, clips / "nothing-here")
    with LocalPeers(config, load("chain", peers=2), [1]) as peers:
        records = list(peers.records())
    failed = [one for one in records if one.get("kind") == "failed"]
    assert [(one["reporter"], one["exit_code"]) for one in failed] == [(1, 2)]
    assert "nothing-here" in failed[0]["reason"]
    assert (records[-1]["kind"], records[-1]["reporter"], records[-1]["exit_code"]) == ("gone", 1, 2)


def test_signals_reach_one_peer_and_the_end_kills_the_rest(tmp_path: Path, clips: Path) -> None:
    with LocalPeers(configured(tmp_path, clips), load("ring", peers=3), [0, 1]) as peers:
        asked, ended = False, {}
        for record in peers.records():
            if record["reporter"] == 0 and record.get("kind") == "waiting" and not asked:
                asked = True
                peers.kill(0, signal.SIGTERM)
            if record.get("kind") == "gone":
                ended[record["reporter"]] = record["exit_code"]
                break
        other = psutil.Process(peers.pid(1))
        assert _runs(other)
    assert ended == {0: 0}
    assert not _runs(other)


def test_a_peer_that_cannot_be_started_leaves_no_other_running(tmp_path: Path, clips: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    begin = LocalPeers.start

    def start(self: LocalPeers, peer: int, **options: Any) -> None:
        if peer == 1:
            raise OSError("no descriptor is free")
        begin(self, peer, **options)

    monkeypatch.setattr(LocalPeers, "start", start)
    peers = LocalPeers(configured(tmp_path, clips), load("chain", peers=2))
    with pytest.raises(OSError, match="no descriptor"), peers:
        pass
    with pytest.raises(ValueError, match="closed"):
        peers.children[0].process.is_alive()


class Ends:
    """Ends the process that reads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (7,)


def test_a_process_that_ends_while_it_checks_the_settings_is_a_failure_in_one_sentence() -> None:
    with pytest.raises(P2PSERError, match="ended with exit code 7") as caught:
        launch.require_fitting(Config(), Ends())  # type: ignore[arg-type]
    assert caught.value.exit_code == 1


def test_peers_die_with_their_launcher(tmp_path: Path, clips: Path, python: list[str]) -> None:
    script = tmp_path / "launcher.py"
    script.write_text(f"""
from p2pser.config import Config
from p2pser.peer.launch import LocalPeers
from p2pser.graph.spec import load

if __name__ == "__main__":
    config = Config().with_settings({list(_plain(configured(tmp_path, clips)))!r})
    with LocalPeers(config, load("ring", peers=3), [0, 1]) as peers:
        for record in peers.records():
            if record.get("kind") == "up":
                print(peers.pid(0), peers.pid(1), flush=True)
""")
    with subprocess.Popen([*python, str(script)], stdout=subprocess.PIPE, text=True) as launcher:
        try:
            assert launcher.stdout is not None
            children = [psutil.Process(int(pid)) for pid in launcher.stdout.readline().split()]
        finally:
            launcher.kill()
    assert len(children) == 2
    pause = threading.Event()
    for _ in range(600):
        if not any(map(_runs, children)):
            return
        pause.wait(0.1)
    left = [f"{child} of {child.parent()}" for child in filter(_runs, children)]
    for child in filter(_runs, children):
        child.kill()
    pytest.fail(f"the peers outlive their launcher: {left}")


def _runs(process: psutil.Process) -> bool:
    """Whether a process still runs; a zombie, which nobody has asked for its end, does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _plain(config: Config) -> list[str]:
    return ["corpus.name=folder", f"corpus.data={config.corpus.data}", "corpus.split=none", "model.hidden=[4]",
            f"peer.out={config.peer.out}", f"network.base_port={config.network.base_port}"]


def test_a_free_base_port_can_be_listened_on() -> None:
    base = free_base_port(5)
    assert launch.PORTS.start <= base < launch.PORTS.stop - 5
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the probe does
        taken.bind(("127.0.0.1", base + 2))
        taken.listen()
        other = free_base_port(5)
        assert base + 2 not in range(other, other + 5)


def test_more_ports_than_there_are_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pser.peer.launch.PORTS", range(20000, 20010))
    monkeypatch.setattr("p2pser.peer.launch._is_free", lambda host, port: port != 20005)
    assert free_base_port(4) in range(20000, 20010)
    for count in (8, 10, 11):
        with pytest.raises(ConfigError, match=r"network\.base_port"):
            free_base_port(count)
