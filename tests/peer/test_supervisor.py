"""What a peer tells the service manager that started it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from commands import Command, with_environment

from p2pser.peer.launch import free_base_port
from p2pser.peer.supervisor import Supervisor

PATIENCE = 250.0


class Manager:
    """A service manager's socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.end.bind(str(path))
        self.end.settimeout(PATIENCE)

    def told(self) -> list[str]:
        """Return what has come."""
        messages = []
        self.end.setblocking(False)
        try:
            while True:
                messages.append(self.end.recv(4096).decode())
        except BlockingIOError:
            return messages
        finally:
            self.end.settimeout(PATIENCE)

    def until(self, start: str) -> list[str]:
        """Wait for a message that begins so; return all until it, this one last."""
        messages = [self.end.recv(4096).decode()]
        while not messages[-1].startswith(start):
            messages.append(self.end.recv(4096).decode())
        return messages


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    one = Manager(tmp_path / "notify")
    yield one
    one.end.close()


def test_it_sends_what_the_protocol_says(manager: Manager) -> None:
    supervisor = Supervisor({"NOTIFY_SOCKET": str(manager.path)})
    supervisor.ready()
    supervisor.ready()
    supervisor.status("two\nlines")
    supervisor.stopping()
    assert manager.told() == ["READY=1", "STATUS=two lines", "STOPPING=1"]
    supervisor.got_on()
    assert not supervisor.pulse()  # not watched
    assert manager.told() == []


def test_an_abstract_socket_is_found() -> None:
    name = f"p2pser-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind("\0" + name)
        Supervisor({"NOTIFY_SOCKET": "@" + name}).ready()
        assert end.recv(100) == b"READY=1"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "vsock:2:1"}, {"NOTIFY_SOCKET": "/nonexistent/notify"},
                                         {"NOTIFY_SOCKET": ""}])
def test_without_a_manager_nothing_is_sent(environment: dict[str, str]) -> None:
    supervisor = Supervisor({**environment, "WATCHDOG_USEC": "many"})
    supervisor.ready()
    supervisor.got_on()
    assert not supervisor.pulse()


def test_it_is_alive_only_where_the_training_thread_has_got_on(manager: Manager) -> None:
    now = 0.0
    supervisor = Supervisor({"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "9000000",
                             "WATCHDOG_PID": str(os.getpid())}, lambda: now)
    supervisor.got_on()
    assert supervisor.pulse()
    assert manager.told() == ["WATCHDOG=1"]
    now = 2.9
    supervisor.got_on()
    assert not supervisor.pulse()  # three times in nine seconds are enough
    now = 3.0
    assert supervisor.pulse()
    assert manager.told() == ["WATCHDOG=1"]
    now = 20.0
    assert supervisor.pulse()  # it is woken, but nothing is told: it has not got on
    assert manager.told() == []


def test_a_container_sees_by_a_file_that_it_is_alive(tmp_path: Path) -> None:
    now, alive = 0.0, tmp_path / "alive"
    supervisor = Supervisor({"P2PSER_ALIVE": str(alive)}, lambda: now)
    assert supervisor.pulse()
    assert not alive.exists()
    now = 10.0
    supervisor.got_on()
    assert supervisor.pulse()
    os.utime(alive, (1, 1))
    now = 20.0
    assert supervisor.pulse()
    assert alive.stat().st_mtime == 1
    supervisor.got_on()
    assert not supervisor.pulse()


def test_without_a_manager_it_still_knows_whether_the_peer_gets_on() -> None:
    now = 100.0
    supervisor = Supervisor({}, lambda: now)
    supervisor.watch()
    assert supervisor.pulse()
    now = 109.0
    supervisor.got_on()
    assert not supervisor.pulse()
    assert supervisor.idle == 9.0
    now = 110.0
    assert supervisor.pulse()
    now = 125.0
    assert supervisor.pulse()
    assert supervisor.idle == 15.0


def test_a_watchdog_of_another_process_is_not_ours(manager: Manager) -> None:
    supervisor = Supervisor({"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"})
    supervisor.got_on()
    assert not supervisor.pulse()


def test_a_peer_that_waits_is_ready_and_alive_and_leaves_when_asked(manager: Manager, tmp_path: Path) -> None:
    variables = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "900000"}
    with Command("peer", "--id", "0", "--peers", "2", "--corpus", "none", "--set", "features.normalise=global", "--set",
                 f"network.base_port={free_base_port(2)}", "--out", str(tmp_path),
                 change=partial(with_environment, variables)) as peer:
        assert "WATCHDOG=1" not in manager.until("READY=1")
        assert manager.until("STATUS=peer 0 is waiting for peer 1")
        manager.told()
        for _ in range(3):
            manager.until("WATCHDOG=1")
        peer.send_signal(signal.SIGTERM)
        told = [message for message in manager.until("STOPPING=1") if message != "WATCHDOG=1"]
        assert told[-2:-1] == ["STATUS=peer 0 leaves before the first round; the same command resumes"]
        assert peer.wait(PATIENCE) == 0
