"""Resolves the host names of neighbours outside of the threads that serve connections.

ZeroMQ resolves a name in the one thread that serves all connections of a process. A name server that does not answer
would block them for seconds, again and again, and the neighbours would count this peer as dead. So ZeroMQ gets numeric
addresses only, and each name is resolved in a thread of its own.
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
"""Seconds after which to check again whether a name is resolved."""
AGAIN, SOON = 5.0, 1.0
"""Shortest time between two lookups of a name that has been resolved, and of one that has not [s]."""


class Names:
    """The numeric addresses of host names. Used by the I/O thread only.

    clock : returns the time [s].
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._found: dict[str, str] = {}
        """The last numeric address found for each name."""
        self._failed: dict[str, str] = {}
        """Why the last lookup of a name has failed."""
        self._asked: dict[str, float] = {}
        self._threads: dict[str, threading.Thread] = {}

    def numeric(self, contact: Contact) -> Contact | None:
        """Return a contact, which must have an address, with a numeric host; None while that is unknown. Never waits.

        Later calls look the name up again, at most every AGAIN or SOON seconds.
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
            with contextlib.suppress(RuntimeError):  # no thread can be started: a later call tries again
                self._threads[host].start()
        ip = self._found.get(host)
        return None if ip is None else replace(contact, address=f"tcp://{ip}:{address.rpartition(':')[2]}",
                                               ipv6="[" in ip)

    def problem(self, contact: Contact) -> str | None:
        """Return a sentence on why the last lookup of a contact's name has failed; None if it has not."""
        host = host_of(str(contact.address))
        return None if host not in self._failed else (
            f"the host of peer {contact.peer}, {host}, cannot be found now ({self._failed[host]}), and is looked up "
            "again: start it, or correct its name in the topology file")

    def _look_up(self, host: str) -> None:
        try:
            places = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self._failed[host] = getattr(error, "strerror", None) or str(error)
            return
        numbers = [str(place[0]) for family, *_, place in places if family == socket.AF_INET]
        numbers += [f"[{place[0]}]" for family, *_, place in places if family == socket.AF_INET6]
        if self._found.get(host) not in numbers:  # keep one of several: name servers may rotate them
            self._found[host] = numbers[0]
        self._failed.pop(host, None)
