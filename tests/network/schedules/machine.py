"""A machine that runs a peer: its processes one after another, and what each of them is connected to."""

from __future__ import annotations

import contextlib
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from queue import Empty
from typing import Any

from greenlet import GreenletExit, greenlet
from torch import Tensor

from p2pser.base.errors import P2PSERError
from p2pser.gossip.mixer import Edges, Late, Step, distance
from p2pser.network import connections, events
from p2pser.network.exchange import Outcome
from p2pser.network.io import TICK, IOThread
from p2pser.network.mixer import NetworkMixer
from p2pser.peer.identity import Identity
from p2pser.peer.process import Peer
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Progress
from schedules.wires import Context, Network
from schedules.world import World

PROMPT = 0.0001
"""How long an I/O thread takes to begin a turn that something called for [s]."""


class Connections(connections.Connections):
    """The real connections, whose sockets are those of a process."""

    def __init__(self, process: Process, *arguments: Any) -> None:
        Context.born_for = process
        super().__init__(*arguments)


class Queue:
    """The queue of events, in which the training thread waits: that is where another peer runs."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.items: deque[events.Event] = deque()
        self.most = 0
        """The longest that it has been."""

    def put(self, event: events.Event) -> None:
        self.items.append(event)
        self.most = max(self.most, len(self.items))
        process = self.process
        process.world.note(process.name, *_told(event))
        if process.waits_for_event:
            process.waits_for_event = False
            process.wake_after(PROMPT)

    def get_nowait(self) -> events.Event:
        return self.get(timeout=0.0)

    def get(self, block: bool = True, timeout: float | None = None) -> events.Event:
        if not self.items and (timeout is None or timeout > 0):
            self.process.wait(timeout, for_event=True)
        if not self.items:
            raise Empty
        return self.items.popleft()

    def empty(self) -> bool:
        return not self.items

    def qsize(self) -> int:
        return len(self.items)


def _told(event: events.Event) -> tuple[Any, ...]:
    if isinstance(event, events.Arrived):
        header = event.header
        return "arrived", event.peer, header.round, header.slot, header.codec, bytes(event.payload)
    if isinstance(event, events.Up):  # not the whole HELLO: the number of a process is drawn by the machine
        return "event", "Up", event.peer, event.hello.incarnation, event.progress
    if isinstance(event, events.Agreed):
        return "event", "Agreed", event.peer, event.hello.labels
    return "event", event


class IO(IOThread):
    """An I/O thread whose turns the world runs."""

    def __init__(self, process: Process, hello: Hello, identity: Identity, peer: Peer, max_row_bytes: int) -> None:
        self.process, self.alive = process, False
        super().__init__(hello, identity.keys, identity.listen, identity.neighbours, peer.config.network, max_row_bytes,
                         clock=process.clock, connections=partial(Connections, process), queue=Queue(process))

    @property
    def progress(self) -> Progress:
        return self._protocol.ours.progress

    @progress.setter
    def progress(self, progress: Progress) -> None:
        before = self._protocol.ours.progress
        self._protocol.ours.progress = progress
        process = self.process
        if progress[:3] != before[:3]:
            process.advanced_at = process.world.now
            process.machine.on_progress(progress)

    def start(self) -> None:
        self.endpoint = self._connections.open(self.endpoint)
        self.alive = True
        self.process.stir()

    def close(self, reason: str, flush: float) -> None:
        if self.alive and not self.process.dead:
            self._command(self._protocol.farewell.begin, reason, self.clock() + flush)
            while self.alive:
                self.process.wait(None)
        elif not self._closed:
            self._close_sockets(0)

    def _command(self, do: Callable[..., None], *arguments: Any) -> None:
        self._commands.append((do, arguments))
        self.process.stir()

    def serve(self) -> float | None:
        """Take one turn; return the seconds until the next, None after the last."""
        try:
            self._connections.poll(0)
            self.run_commands()
            self.turn()
            if not self._protocol.farewell.may_close():
                now = self.clock()
                return min(TICK, max(0.001, self._protocol.next_due() - now))
            self._protocol.farewell.last()
            self._close_sockets(self._settings.linger)
        except Exception as error:
            self._close_sockets(0)
            self.events.put(events.Failed(error))
        self.alive = False
        self.process.wake_after(PROMPT)
        return None


class Mixer(NetworkMixer):
    """The real mixer, known to its process.

    Local steps take time here.
    """

    def __init__(self, io: IO, *arguments: Any, **more: Any) -> None:
        super().__init__(io, *arguments, **more)
        io.process.mixer = self
        self.mixed: dict[tuple[Step, int], float] = {}
        """(exchange, neighbour) of every row that has been handed over, and its distance from our row."""

    def _collected(self, at: Step) -> tuple[Outcome, Edges]:
        outcome, edges = super()._collected(at)
        for j, value in outcome.values:
            if isinstance(value, Tensor) and self.exchange._own is not None:
                self._note(at, j, distance(value, self.exchange._own))
        self._note_late(outcome.late)
        return outcome, edges

    def close(self) -> tuple[Late, ...]:
        rows = super().close()
        self._note_late(rows)
        return rows

    def _note_late(self, rows: Iterable[Late]) -> None:
        for late in rows:
            self._note(late.step, late.edge[1], distance(late.value, late.own))

    def _note(self, at: Step, neighbour: int, gap: float) -> None:
        if (at, neighbour) in self.mixed:
            self.io.process.twice.append((at, neighbour))
        self.mixed[at, neighbour] = gap

    def local_step(self, peer: int, step: int) -> None:
        process = self.io.process
        process.advanced_at = process.world.now
        super().local_step(peer, step)
        process.wait(process.step_time())  # a local step takes time


class SimulatedPeer(Peer):
    """A peer whose end of the network is the world's."""

    process: Process

    def moment(self) -> int:
        return int(self.process.world.now * 10)

    def attach(self, hello: Hello, identity: Identity, max_row_bytes: int) -> IO:
        io = self.process.io = IO(self.process, hello, identity, self, max_row_bytes)
        return io


class Process:
    """One process of a peer, from its start to its end."""

    def __init__(self, machine: Machine, peer: SimulatedPeer, started: int) -> None:
        self.machine, self.world, self.peer = machine, machine.world, peer
        peer.process = self
        self.name = f"{machine.id}.{started}"
        self.io: IO | None = None
        self.mixer: Mixer | None = None
        self.context: Context | None = None
        self.stopped = self.dead = False
        self.exit_code: int | None = None
        self.ended: tuple[str, Any] | None = None
        """How it ended: done, interrupted, error or crash, and the summary, sentence or traceback."""
        self.waits_for_event = False
        self.advanced_at = self.world.now
        """When its training thread last went on."""
        self.offset = 0.0
        self.twice: list[tuple[Step, int]] = []
        """(exchange, neighbour) of the messages that were mixed a second time."""
        self._turn_at: float | None = None
        self._ticket = 0
        self._missed: list[Callable[[], None]] = []
        self.greenlet = greenlet(self._run)
        self.wake_after(PROMPT)

    def clock(self) -> float:
        """The time as this process sees it [s]."""
        return self.world.now + self.offset

    def step_time(self) -> float:
        return self.machine.pace * (0.9 + 0.2 * self.world.random.random())

    # What its greenlet calls ----------------------------------------------------------------------------------

    def wait(self, timeout: float | None, for_event: bool = False) -> None:
        """Let the others run until something wakes this process."""
        if self.dead:
            raise GreenletExit
        self._ticket += 1
        self.waits_for_event = for_event
        if timeout is not None:
            self.wake_after(timeout)
        self.world.main.switch()
        self.waits_for_event = False
        if self.dead:
            raise GreenletExit

    def _run(self) -> None:
        try:
            ending = self.peer.run()
            self.exit_code = ending.exit_code
            self.ended = ("done" if ending.finished else "interrupted", ending.summary)
        except GreenletExit:
            raise
        except P2PSERError as error:
            self.ended = ("error", str(error))
        except Exception as error:
            self.ended = ("crash", "".join(traceback.format_exception(error)))
        if self.dead:
            raise GreenletExit
        self.world.note(self.name, "ended", *self.ended)
        self.machine.process_ended(self)

    # What the world calls -------------------------------------------------------------------------------------

    def wake_after(self, seconds: float) -> None:
        """Let the training thread go on, unless something else wakes it before."""
        ticket = self._ticket

        def wake() -> None:
            if self.dead or ticket != self._ticket or self.greenlet.dead:
                return
            if self.stopped:
                self._missed.append(wake)
                return
            self._ticket += 1
            self.machine.running = self
            self.greenlet.switch()
            self.machine.running = None

        self.world.after(seconds, wake)

    def stir(self) -> None:
        """Let the I/O thread take a turn now."""
        self._turn_in(PROMPT)

    def _turn_in(self, seconds: float) -> None:
        at = self.world.now + seconds
        if self._turn_at is not None and self._turn_at <= at:
            return
        self._turn_at = at

        def turn() -> None:
            if self.dead or self._turn_at != at:
                return
            if self.stopped:
                self._missed.append(turn)
                return
            self._turn_at = None
            if self.io is not None and self.io.alive and (again := self.io.serve()) is not None:
                self._turn_in(again)

        self.world.after(seconds, turn)

    def stop(self) -> None:
        """The process does not run any more (SIGSTOP) ..."""
        self.stopped = True

    def go_on(self) -> None:
        """... until it goes on."""
        self.stopped = False
        missed, self._missed = self._missed, []
        for do in missed:
            self.world.after(PROMPT, do)

    def interrupt(self) -> None:
        """Ask it to leave (SIGTERM)."""
        if self.io is not None:
            self.peer.interrupt()

    def kill(self, quietly: bool) -> None:
        """End it at once; its greenlet stays where it is until the schedule is over."""
        self.dead = True
        self.peer.folder.release()
        if self.context is not None:
            self.context.vanish(quietly)

    def bury(self) -> None:
        """Unwind the greenlet of a process that was killed."""
        self.dead = True
        if self.greenlet and not self.greenlet.dead:
            with contextlib.suppress(Exception, GreenletExit):
                self.greenlet.throw(GreenletExit)
        if self.io is not None and not self.io._closed:
            self.io._close_sockets(0)


class Machine:
    """Where one peer runs, with its disk.

    Parameters
    ----------
    id : the peer's.
    make : makes the peer, given whether it starts afresh.
    pace : seconds of a local step.
    """

    def __init__(self, id: int, world: World, network: Network, make: Callable[[bool], SimulatedPeer],
                 pace: float) -> None:
        self.id, self.world, self.network, self.make, self.pace = id, world, network, make, pace
        self.process: Process | None = None
        self.running: Process | None = None
        """The process whose greenlet runs now."""
        self.past: list[Process] = []
        self.delayed_until = 0.0
        self.on_progress: Callable[[Progress], None] = lambda progress: None
        self.on_end: Callable[[], None] = lambda: None
        network.machines[id] = self

    def start(self, fresh: bool = False) -> None:
        """Start the peer, unless it runs."""
        if self.process is None:
            self.world.note(self.id, "starts", "afresh" if fresh else "")
            self.process = Process(self, self.make(fresh), len(self.past))
            self.past.append(self.process)

    def kill(self, quietly: bool = False) -> None:
        """Kill the process; ``quietly``: the machine goes down, and no connection is closed."""
        if self.process is not None:
            self.world.note(self.id, "is killed", "quietly" if quietly else "")
            process, self.process = self.process, None
            process.kill(quietly)

    def process_ended(self, process: Process) -> None:
        if self.process is process:
            self.process = None
            self.on_end()

    def what(self) -> str:
        """Return what the machine does now, in a word."""
        if self.process is not None:
            return "runs"
        last = self.last
        return "not started" if last is None else "killed" if last.ended is None else last.ended[0]

    @property
    def last(self) -> Process | None:
        return self.past[-1] if self.past else None
