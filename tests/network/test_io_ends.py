"""Starting and closing the I/O thread. That nothing is left is checked after every test (tests/conftest.py)."""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from p2pser.base.errors import ConfigError
from p2pser.network import events

if TYPE_CHECKING:
    from network.conftest import Network


def test_a_port_that_is_taken_is_a_config_error(network: Network) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        io = network.peer(0, (1,), start=False)
        io.endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match="already taken"):
            io.start()
        io.close("failed", flush=0.0)


@pytest.mark.parametrize("endpoint", ["tcp://999.1.1.1:5700", "nonsense", "tcp://192.0.2.1:0"])
def test_an_address_that_cannot_be_listened_on_is_a_config_error(network: Network, endpoint: str) -> None:
    io = network.peer(0, (1,), start=False)
    io.endpoint = endpoint
    with pytest.raises(ConfigError, match="cannot listen"):
        io.start()


@pytest.mark.parametrize("endpoint", ["tcp://localhost:0", "tcp://[::1]:0", "tcp://*:0"])
def test_the_usual_names_of_this_machine_can_be_listened_on(network: Network, endpoint: str) -> None:
    if "::1" in endpoint:
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    io = network.peer(0, (1,), start=False)
    io.endpoint = endpoint
    io.start()
    assert io.endpoint
    assert not io.endpoint.endswith(":0")


@pytest.mark.parametrize(("address", "key"), [("tcp://nowhere", None),
                                              ("tcp://127.0.0.1:1", "#" * 40)])
def test_a_neighbour_that_cannot_be_dialled_is_a_config_error(network: Network, address: str,
                                                              key: str | None) -> None:
    io = network.peer(0, (1,), start=False)
    neighbour = io._neighbours[1].contact
    object.__setattr__(neighbour, "address", address)
    if key is not None:
        object.__setattr__(neighbour, "key", key)
    with pytest.raises(ConfigError):
        io.start()


def test_links_that_were_never_started_close(network: Network) -> None:
    io = network.peer(0, (1,), start=False)
    io.close("failed", flush=0.0)
    io.close("failed", flush=0.0)


def test_a_thread_that_ends_before_it_is_woken_is_closed_all_the_same(network: Network) -> None:
    """An earlier wake-up may make it obey the last command, and close its sockets, before that one's own wake-up."""
    io = network.peer(0, (1,))

    class Obeyed(deque[Any]):
        def append(self, command: Any) -> None:
            super().append(command)
            io._wake_end.send(b"!")
            io._thread.join(30.0)

    io._commands = Obeyed()
    io.close("failed", flush=0.0)
    assert not io._thread.is_alive()


def test_a_bug_in_the_thread_reaches_the_training_thread(network: Network) -> None:
    a = network.peer(0, (1,))

    def broken(peer: int) -> None:
        raise ZeroDivisionError("a bug")

    a._command(broken, 1)
    with pytest.raises(ZeroDivisionError):
        network.wait(a, events.Failed)
