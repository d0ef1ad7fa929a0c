"""The addresses of neighbours that are given by name, looked up apart from the connections.

ZeroMQ looks a name up in the one thread that carries all connections of a process. A name server that does not answer
would hold them all for seconds, again and again, so that the neighbours hold this peer for dead. So ZeroMQ is given
numbers only, and each name is looked up in a thread of its own.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
from collections.abc import Callable
from dataclasses import replace

from p2pser.base.hosts import host_of, is_name
from p2pser.network.neighbour import Contact

LOOK = 0.25
"""Seconds until it is looked again whether a name has a number."""
AGAIN, SOON = 5.0, 1.0
"""Shortest time between two lookups of a name that has an address, and of one that had none [s]."""


class Names:
    """The numbers of host names. Used by the I/O thread only.

    clock : returns the time [s].
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._found: dict[str, str] = {}
        """The number that was found last for each name."""
        self._failed: dict[str, str] = {}
        """Why the last lookup of a name found none."""
        self._asked: dict[str, float] = {}
        self._threads: dict[str, threading.Thread] = {}

    def numeric(self, contact: Contact) -> Contact | None:
        """Return a contact that has an address, with a number as its host; None where none is known yet. Never waits.

        A name is looked up again now and then, as long as it is asked for.
        """
        address = str(contact.address)
        host = host_of(address)
        if not is_name(host):
            return contact
        now, pause = self._clock(), AGAIN if host in self._found else SOON
        busy = host in self._threads and self._threads[host].is_alive()
        if not busy and now >= self._asked.get(host, -math.inf) + pause:
            self._asked[host] = now
            self._threads[host] = threading.Thread(target=self._look_up, args=(host,), daemon=True,
                                                   name=f"p2pser-name-{host}")
            with contextlib.suppress(RuntimeError):  # no thread is left: it is tried again
                self._threads[host].start()
        found = self._found.get(host)
        return None if found is None else replace(contact, address=f"tcp://{found}:{address.rpartition(':')[2]}",
                                                  ipv6="[" in found)

    def problem(self, contact: Contact) -> str | None:
        """Return a sentence on why a contact's name has no number; None where it has one, or is being looked up."""
        host = host_of(str(contact.address))
        return None if host not in self._failed else (
            f"the host of peer {contact.peer}, {host}, cannot be found now ({self._failed[host]}), and is looked up "
            "again: start it, or correct the name")

    def _look_up(self, host: str) -> None:
        try:
            places = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self._failed[host] = getattr(error, "strerror", None) or str(error)
            return
        numbers = [str(place[0]) for family, *_, place in places if family == socket.AF_INET]
        numbers += [f"[{place[0]}]" for family, *_, place in places if family == socket.AF_INET6]
        if self._found.get(host) not in numbers:  # one of several stays: a name may give them in turn
            self._found[host] = numbers[0]
        self._failed.pop(host, None)
