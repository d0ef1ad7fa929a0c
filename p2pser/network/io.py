"""The I/O thread: it owns all sockets, answers neighbours while training uses the processor, and never blocks."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from queue import SimpleQueue
from typing import Any

from p2pser.base.errors import LocalProtocolError
from p2pser.config import NetworkSettings
from p2pser.network import events
from p2pser.network.connections import Connections
from p2pser.network.keys import KeyPair
from p2pser.network.neighbour import Contact
from p2pser.network.protocol import TICK, PeerProtocol
from p2pser.network.states import State
from p2pser.network.stream import Outgoing, Traffic
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Buffer, Kind, Phase, Progress

SHOWN = {State.ABSENT: "waiting", State.REFUSED: "waiting", State.PRESENT: "alive", State.SUSPECT: "suspect",
         State.LOST: "dead", State.RETURNING: "alive", State.DONE: "left", State.BANNED: "left"}
"""The name of each state of a neighbour for users."""


class IOThread:
    """A peer's connections to its neighbours, and the thread that serves them.

    The methods are for the training thread, which receives events, in order, from the queue ``events``.

    Parameters
    ----------
    ours : our HELLO.
    keys : our CURVE key pair.
    listen : the endpoint to bind, or None where no neighbour can dial us.
    neighbours : the neighbours' addresses and public keys.
    settings : the network settings.
    max_row_bytes : largest accepted payload [B].
    clock : returns the time [s].
    connections : creates the connections; tests replace the sockets.
    queue : the queue of events; tests replace it.
    pulse : called in each turn of the thread; returns whether to wake the training thread.
    """

    def __init__(self, ours: Hello, keys: KeyPair, listen: str | None, neighbours: Iterable[Contact],
                 settings: NetworkSettings, max_row_bytes: int, clock: Callable[[], float] = time.monotonic,
                 connections: type[Connections] = Connections, queue: SimpleQueue[events.Event] | None = None,
                 pulse: Callable[[], bool] = lambda: False) -> None:
        self.events: SimpleQueue[events.Event] = SimpleQueue() if queue is None else queue
        self.endpoint = listen
        """The endpoint to bind; after ``start`` the bound one."""
        self.clock = clock
        self._settings, self._pulse = settings, pulse
        self._protocol = PeerProtocol(ours, keys, neighbours, settings, max_row_bytes, self.events, clock, connections)
        self._neighbours = self._protocol.neighbours
        self._connections = self._protocol.connections
        self._commands: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._wake_end, self._sleep_end = socket.socketpair()
        self._wake_end.setblocking(False)
        self._sleep_end.setblocking(False)
        self._closed = False
        self._thread = threading.Thread(target=self._main, name=f"p2pser-io-{ours.peer}", daemon=True)

    @property
    def progress(self) -> Progress:
        """Our progress, which every header carries."""
        return self._protocol.ours.progress

    @progress.setter
    def progress(self, progress: Progress) -> None:
        self._protocol.ours.progress = progress

    def begin(self, *, joining: bool = False) -> None:
        """Begin the run without the missing neighbours; a Begun event follows the changes of their states.

        joining : the run is under way: a neighbour that does not train yet is not waited for either.
        """
        self._command(self._protocol.begin, joining)

    def admit(self, admits: bool, *, lockstep: bool = True, progress_counts: Collection[Phase] = ()) -> None:
        """Let a neighbour that is restarted, or starts late, take part while we train, or not.

        lockstep : peers train in common rounds, so that only a row of our round shows that it has caught up.
        progress_counts : phases in which a neighbour's progress shows that too: it may have no row to send.
        """
        self._command(self._protocol.admit, admits, lockstep, progress_counts)

    def learn(self, labels: tuple[str, ...]) -> None:
        """Announce the emotions of the run to all neighbours, also those that connect later."""
        self._command(self._protocol.control.learn, labels, self._neighbours.values())

    def start(self) -> None:
        """Bind, dial and start the thread. Raises ConfigError where the address cannot be bound."""
        try:
            self._connections.watch(self._sleep_end.fileno(), self._woken)
            self.endpoint = self._connections.open(self.endpoint)
        except BaseException:
            self._close_sockets(0)
            raise
        self._thread.start()

    def send(self, peers: Iterable[int], step: tuple[int, int], payload: Buffer, *, codec: str = "", size: int = 0,
             schema: bytes = b"", unmixed: Callable[[int], Sequence[tuple[int, int]]] = lambda peer: ()) -> None:
        """Queue one payload for several neighbours.

        Parameters
        ----------
        peers : the receivers.
        step : (round, slot) of the exchange.
        payload : the bytes, which must not change afterwards.
        codec, size, schema : as in ``Header``: wire name of the row's codec, number of its elements, schema digest.
        unmixed : returns the steps that we have not mixed with a given receiver.
        """
        header = self._protocol.control.header(Kind.ROW, *step)._replace(codec=codec, size=size, schema=schema)
        self._command(self._protocol.queue_rows, [
            (peer, Outgoing(header._replace(unmixed=tuple(unmixed(peer))), payload)) for peer in peers])

    def ping(self, peer: int, payload_bytes: int = 0) -> None:
        """Send a PING to a neighbour now."""
        self._command(self._protocol.control.ping, self._neighbours[peer], payload_bytes)

    def announce_progress(self, peers: Iterable[int]) -> None:
        """Send neighbours our progress now."""
        self._command(self._protocol.send_progress, list(peers))

    def replace_contacts(self, contacts: Iterable[Contact]) -> list[int]:
        """Use these addresses and keys of neighbours from now on; return the neighbours whose address or key changes.
        """
        changed = [contact for contact in contacts if contact != self._neighbours[contact.peer].contact]
        for contact in changed:
            self._command(self._connections.replace_contact, self._neighbours[contact.peer], contact)
        return [contact.peer for contact in changed]

    def forget(self, peer: int, step: tuple[int, int]) -> None:
        """Accept a neighbour's row of a step once more when it is sent again: its first copy was dropped."""
        self._command(self._neighbours[peer].stream.forget, step)

    def drop(self, peer: int, reason: str, incarnation: int | None) -> None:
        """Go on without a neighbour until its row arrives; with ``incarnation``, only if that is the present one."""
        self._command(self._protocol.drop, peer, reason, incarnation)

    def apart(self, peer: int, reason: str) -> None:
        """Do not wait for a neighbour until its row arrives."""
        self._command(self._protocol.apart, peer, reason)

    def strike(self, peer: int, reason: str) -> None:
        """Count an invalid message of a neighbour."""
        self._command(self._protocol.strike, peer, reason)

    def wake(self) -> None:
        """Put a Woken event into the queue (safe in a signal handler)."""
        self.events.put(events.Woken())

    def states(self) -> dict[int, str]:
        """Return each neighbour's state: waiting, alive, suspect, dead or left."""
        return {j: SHOWN[neighbour.state] for j, neighbour in self._neighbours.items()}

    def traffic(self) -> dict[int, Traffic]:
        """Return the traffic with each neighbour so far."""
        return {j: neighbour.stream.snapshot() for j, neighbour in self._neighbours.items()}

    def mark_read(self, peer: int) -> None:
        """Note that the training thread has read an Arrived event of a neighbour."""
        self._neighbours[peer].stream.read += 1

    def mark_heard(self, peer: int) -> None:
        """Note that the training thread has read a Progressed event of a neighbour."""
        self._neighbours[peer].told.heard += 1

    def close(self, reason: str, flush: float) -> None:
        """Send queued rows and BYE, for at most ``flush`` seconds, then close all sockets and join the thread."""
        if self._thread.is_alive():
            self._command(self._protocol.farewell.begin, reason, self.clock() + flush)
            self._thread.join()
        elif not self._closed:
            self._close_sockets(0)

    # The thread -----------------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            while not self._protocol.farewell.may_close():
                self._connections.poll(min(TICK, max(0.0, self._protocol.next_due() - self.clock())))
                self.turn()
            self._protocol.farewell.last()
            self._close_sockets(self._settings.linger)
        except BaseException as error:
            self._close_sockets(0)
            self.events.put(events.Failed(error))

    def turn(self) -> None:
        """Do what is due by the clock and send rows, after ``poll`` has read the sockets."""
        self._protocol.tick()
        for neighbour in self._neighbours.values():
            self._protocol.pump(neighbour)
        if self._pulse():
            self.wake()

    def _command(self, do: Callable[..., None], *arguments: Any) -> None:
        """Let the thread call a function soon."""
        if not self._thread.is_alive():
            raise LocalProtocolError("the I/O thread has ended")
        self._commands.append((do, arguments))
        # The socket may be full of unread wake-ups, or closed because the thread has ended.
        with contextlib.suppress(OSError):
            self._wake_end.send(b"!")

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._sleep_end.recv(4096)
        self.run_commands()

    def run_commands(self) -> None:
        """Run the commands of the training thread."""
        while self._commands:
            do, arguments = self._commands.popleft()
            do(*arguments)

    def _close_sockets(self, linger: float) -> None:
        self._closed = True
        self._connections.close(linger)
        self._wake_end.close()
        self._sleep_end.close()
