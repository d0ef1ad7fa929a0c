"""What a plain connection finds at an address: each case told apart, with what to do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
import zmq

from p2pser.peer import reach
from p2pser.peer.launch import free_base_port
from p2pser.peer.reach import Reach, look


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen(0)
        yield one


def test_a_closed_port_is_a_peer_that_has_not_started() -> None:
    port = free_base_port(1)
    found = look(f"tcp://127.0.0.1:{port}")
    assert found.reach is Reach.NOT_STARTED
    assert found.sentence.startswith(f"the machine 127.0.0.1 answers, but no program listens at its port {port}: start")


def test_another_program_is_told_from_a_peer(listener: socket.socket) -> None:
    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"SSH-2.0")

    thread = threading.Thread(target=answer)
    thread.start()
    found = look(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
    thread.join()
    assert found.reach is Reach.OTHER
    assert "another program listens at port" in found.sentence


def test_a_port_whose_packets_are_dropped_is_filtered(listener: socket.socket) -> None:
    place = listener.getsockname()
    # A full queue of connections drops packets as a firewall does.
    filling = [socket.socket() for _ in range(4)]
    for one in filling:
        one.setblocking(False)
        one.connect_ex(place)
    try:
        found = look(f"tcp://127.0.0.1:{place[1]}", timeout=0.5)
    finally:
        for one in filling:
            one.close()
    assert found.reach is Reach.FILTERED
    assert "a firewall drops them" in found.sentence


def test_a_name_without_an_entry_and_an_address_without_a_way(monkeypatch: pytest.MonkeyPatch) -> None:
    found = look("tcp://no-such-name.invalid:5700")
    assert found.reach is Reach.NO_NAME
    assert "the name no-such-name.invalid is not known here" in found.sentence
    found = look("tcp://[100::1]:5700", timeout=0.5)  # the discard prefix
    assert found.reach in (Reach.NOTHING, Reach.FILTERED)  # as this machine has IPv6 or not
    assert "[" not in found.sentence

    class Lost(socket.socket):
        def connect(self, place: object) -> None:
            raise OSError(113, "No route to host")

    monkeypatch.setattr(reach.socket, "socket", Lost)
    found = look("tcp://127.0.0.1:5700")
    assert found.reach is Reach.NOTHING
    assert found.sentence.startswith("no machine answers at 127.0.0.1 (No route to host): it is off")


def test_a_peer_greets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "GREETING", 20.0)  # the thread that greets may have to wait for a processor
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    try:
        port = router.bind_to_random_port("tcp://127.0.0.1")
        assert look(f"tcp://localhost:{port}").reach is Reach.PEER
    finally:
        router.close(0)
        context.term()
