"""A peer's notifications to the service manager that started it (systemd's protocol, ``sd_notify(3)``).

Datagrams to the socket that ``$NOTIFY_SOCKET`` names: READY once the peer listens, STATUS with a sentence, STOPPING at
its end, and WATCHDOG as long as it makes progress. If the variable is not set, nothing is sent.

WATCHDOG is sent by the I/O thread, and only if the training thread has made progress since the last one: by a local
step, an event, or a check while it waits. So WATCHDOG stops if either of the two threads is stuck.

Containers have no such socket: there ``$P2PSER_ALIVE`` names a file, whose modification time is renewed instead.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

PER_TIMEOUT = 3
"""Number of WATCHDOGs within the service manager's time limit, so that a single late one does not end the peer."""
ALIVE_EVERY = 10.0
"""Time between two renewals of the file, and between two checks of the peer's progress [s]."""


class Supervisor:
    """The service manager of this process, if it has one.

    environment : holds NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID and P2PSER_ALIVE.
    clock : returns the time [s].
    """

    def __init__(self, environment: Mapping[str, str] = os.environ,
                 clock: Callable[[], float] = time.monotonic) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address[:1] == "@" else address if address[:1] == "/" else ""
        self._alive = environment.get("P2PSER_ALIVE", "")
        watchdog = _interval(environment) if self._address else None
        self._every = min(watchdog or math.inf, ALIVE_EVERY if self._alive else math.inf)
        self._clock = clock
        self._next = self._moved = clock()
        self._got_on, self._ready = False, False

    def watch(self) -> None:
        """Check the peer's progress without a manager too: the training thread is then woken regularly."""
        self._every = min(self._every, ALIVE_EVERY)

    @property
    def listens(self) -> bool:
        """Whether the peer is ready."""
        return self._ready

    @property
    def idle(self) -> float:
        """Time since both threads were last known to make progress [s]; read it from any thread."""
        return self._clock() - self._moved

    def ready(self) -> None:
        """Report that the peer listens, so that neighbours can connect. Later calls do nothing."""
        if not self._ready:
            self._ready = True
            self._send("READY=1")

    def status(self, sentence: str) -> None:
        """Report what the peer does at present."""
        self._send("STATUS=" + " ".join(sentence.split()))

    def stopping(self) -> None:
        """Report that the peer ends."""
        self._send("STOPPING=1")

    def got_on(self) -> None:
        """Note that the training thread has made progress."""
        self._got_on = True

    def pulse(self) -> bool:
        """Send WATCHDOG if it is due and the training thread has made progress; the I/O thread calls this in each turn.

        Return whether to wake the training thread, so that it can show progress while it only waits.
        """
        now = self._clock()
        if now < self._next or self._every == math.inf:
            return False
        self._next = now + self._every
        if self._got_on:
            self._got_on, self._moved = False, now
            self._send("WATCHDOG=1")
            if self._alive:
                with contextlib.suppress(OSError):
                    Path(self._alive).touch()
        return True

    def _send(self, message: str) -> None:
        """Send without blocking: a manager that does not read must not delay the peer."""
        if self._address:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                end.setblocking(False)
                end.sendto(message.encode(errors="backslashreplace"), self._address)


def _interval(environment: Mapping[str, str]) -> float | None:
    """Return the time between two WATCHDOGs [s]; None if this process is not watched."""
    limit, watched = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not limit.isdecimal() or watched not in ("", str(os.getpid())):
        return None
    return int(limit) / 1e6 / PER_TIMEOUT or None
