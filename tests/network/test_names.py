"""Names of hosts: looked up apart from the connections, again and again, and never waited for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from p2pser.network import events
from p2pser.network.names import AGAIN, SOON, Names
from p2pser.network.neighbour import Contact

if TYPE_CHECKING:
    from network.conftest import Network

CLINIC = Contact(3, "tcp://clinic.example:5700", "k")


class Server:
    """A name server of the test's own; ``answers`` holds its answers back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.numbers: list[str] = ["192.0.2.7"]
        self.answers = threading.Event()
        self.asked = 0
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: str, *rest: Any, **more: Any) -> Any:
        if host != "clinic.example":
            return self._real(host, *rest, **more)
        self.asked += 1
        assert self.answers.wait(60)
        if not self.numbers:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET6 if ":" in one else socket.AF_INET, 1, 6, "", (one, 0)) for one in self.numbers]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    one = Server(monkeypatch)
    yield one
    one.answers.set()
    for thread in threading.enumerate():
        if thread.name.startswith("p2pser-name-"):
            thread.join()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def answered(names: Names, contact: Contact = CLINIC) -> Contact | None:
    """What is known once the lookup under way is over."""
    names.numeric(contact)
    for thread in list(names._threads.values()):
        thread.join()
    return names.numeric(contact)


def test_what_is_no_name_is_not_looked_up(server: Server) -> None:
    names = Names(Clock())
    for address in ("tcp://192.0.2.7:1", "tcp://[2001:db8::1]:1", "tcp://localhost:1"):
        contact = replace(CLINIC, address=address)
        assert names.numeric(contact) == contact


def test_a_lookup_is_not_waited_for_and_there_is_one_at_a_time(
        server: Server, eventually: Callable[[Callable[[], bool], str], None]) -> None:
    clock = Clock()
    names = Names(clock)
    assert names.numeric(CLINIC) is None
    clock.now += 10 * AGAIN
    assert names.numeric(CLINIC) is None
    assert [thread.name for thread in threading.enumerate()].count("p2pser-name-clinic.example") == 1
    assert names.problem(CLINIC) is None
    eventually(lambda: server.asked == 1, "the name server is not asked")
    server.answers.set()
    assert answered(names) == replace(CLINIC, address="tcp://192.0.2.7:5700")


def test_ipv4_is_preferred_and_one_of_several_numbers_stays(server: Server) -> None:
    clock, server.numbers = Clock(), ["2001:db8::1", "192.0.2.8", "192.0.2.7"]
    server.answers.set()
    names = Names(clock)
    assert answered(names) == replace(CLINIC, address="tcp://192.0.2.8:5700")
    for numbers, now in ((["192.0.2.7", "192.0.2.8"], "192.0.2.8"), (["192.0.2.7"], "192.0.2.7"),
                         (["2001:db8::1"], "[2001:db8::1]"), ([], "[2001:db8::1]")):
        server.numbers = numbers
        clock.now += AGAIN
        assert answered(names) == replace(CLINIC, address=f"tcp://{now}:5700", ipv6=":" in now)


def test_a_name_without_a_number_is_told_and_looked_up_soon_again(server: Server) -> None:
    clock, server.numbers = Clock(), []
    server.answers.set()
    names = Names(clock)
    assert answered(names) is None
    assert names.problem(CLINIC) == (
        "the host of peer 3, clinic.example, cannot be found now (Name or service not known), and is looked up again: "
        "start it, or correct its name in the topology file")
    server.numbers = ["192.0.2.7"]
    assert answered(names) is None, "it was asked just now"
    clock.now += SOON
    assert answered(names) == replace(CLINIC, address="tcp://192.0.2.7:5700")
    assert names.problem(CLINIC) is None


def test_a_name_server_that_does_not_answer_holds_no_other_connection(server: Server, network: Network) -> None:
    server.numbers = ["127.0.0.1"]
    one = network.peer(0, (1, 2), start=False)
    link = one._neighbours[1]
    link.contact = replace(link.contact, address=str(link.contact.address).replace("127.0.0.1", "clinic.example"))
    network.start(one)
    for j in (1, 2):
        network.peer(j, (0,), dials=())
    network.wait(one, events.Up, lambda event: event.peer == 2)
    assert not any(isinstance(event, events.Up) and event.peer == 1 for event in network.so_far(one))
    server.answers.set()
    network.wait(one, events.Up, lambda event: event.peer == 1)
