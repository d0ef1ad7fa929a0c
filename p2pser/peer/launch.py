"""Several peers on this machine: real processes, real sockets, started from a forkserver that has imported everything.

The launcher itself imports no torch. Each child tells of its run through a pipe, and dies with its launcher.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import multiprocessing.connection
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType, TracebackType
from typing import Any

from p2pser.base.errors import ConfigError, P2PSERError
from p2pser.base.registries import FAMILIES
from p2pser.config import Config
from p2pser.topology.spec import Topology

PRELOAD = "p2pser.peer.preload"
PORTS = range(20000, 32000)
"""Where free ports are looked for: below the range from which systems take ports for outgoing connections."""
_PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """One local peer's process, and the end of its pipe."""

    peer: int
    process: BaseProcess
    pipe: Connection


class LocalPeers:
    """Peers ``ids`` of a topology as processes of this machine.

    Use as a context manager: whatever is still running at its end is killed. ``fresh`` as for ``Peer``.
    """

    def __init__(self, config: Config, topology: Topology, ids: Sequence[int] | None = None, *, fresh: bool = False):
        self.children: dict[int, Child] = {}
        self._config, self._topology, self._fresh = config, topology, fresh
        self._ids = tuple(range(topology.size)) if ids is None else tuple(ids)

    def __enter__(self) -> LocalPeers:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(name, str(self._config.training.threads))
        os.environ.setdefault("MALLOC_ARENA_MAX", "1")  # glibc: else each thread of each peer has a heap of its own
        context = multiprocessing.get_context("forkserver")
        # Before our own, which freezes what there is; where it is not installed, a peer says so.
        context.set_forkserver_preload([*FAMILIES[self._config.model.name].preload, PRELOAD])
        for peer in self._ids:
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(self._config, self._topology, peer, self._fresh, there),
                                      name=f"p2pser-peer-{peer}", daemon=True)
            process.start()
            there.close()
            self.children[peer] = Child(peer, process, here)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for child in self.children.values():
            child.process.kill()
        for child in self.children.values():
            child.process.join()
            child.process.close()
            child.pipe.close()

    def kill(self, peer: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to a peer's process."""
        os.kill(self.pid(peer), number)

    def pid(self, peer: int) -> int:
        """Return the process id of a peer."""
        pid: int | None = self.children[peer].process.pid
        if pid is None:
            raise ValueError(f"peer {peer} has not been started")
        return int(pid)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield what the children tell, as it comes, until all have ended.

        Each has its ``reporter``; events of the network name the neighbour in ``peer``. Beside telemetry's records:
        ``{"kind": "say", "sentence"}``, ``{"kind": "sketch", …}``, ``{"kind": "ended", "finished", "summary"}``,
        ``{"kind": "failed", "reason", "exit_code"}`` and, last of each peer, ``{"kind": "gone", "exit_code"}``
        (negative: the signal that ended it).
        """
        open_pipes = {child.pipe: child for child in self.children.values()}
        while open_pipes:
            for ready in multiprocessing.connection.wait(list(open_pipes)):
                child = open_pipes[ready]  # type: ignore[index]
                try:
                    yield {"peer": child.peer, **json.loads(child.pipe.recv_bytes()), "reporter": child.peer}
                except EOFError:
                    del open_pipes[child.pipe]
                    child.process.join()
                    yield {"peer": child.peer, "kind": "gone", "exit_code": child.process.exitcode,
                           "reporter": child.peer}


def free_base_port(count: int, host: str = "127.0.0.1") -> int:
    """Return a port p such that p .. p + count - 1 can be listened on now. Raises ConfigError where there is none."""
    first = PORTS.start + os.getpid() * 64 % (len(PORTS) - count)
    candidates: list[int] = [*range(first, PORTS.stop - count, count), *range(PORTS.start, first, count)]
    for base in candidates:
        if all(_is_free(host, base + i) for i in range(count)):
            return base
    raise ConfigError(f"there are no {count} free ports in a row on {host}; set network.base_port")


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def _child(config: Config, topology: Topology, me: int, fresh: bool, pipe: Connection) -> None:
    """A child process's work."""
    _die_with_parent()
    threading.Thread(target=_die_with_launcher, args=(pipe.fileno(),), name="p2pser-lifeline", daemon=True).start()
    from p2pser.peer.process import Peer

    def tell(record: dict[str, Any]) -> None:
        try:
            pipe.send_bytes(json.dumps(record).encode())
        except BrokenPipeError:
            os._exit(1)  # the launcher is gone

    peer = Peer(config, topology, me, fresh=fresh, sink=tell,
                say=lambda sentence: tell({"kind": "say", "sentence": sentence}))

    def stop(number: int, frame: FrameType | None) -> None:
        peer.interrupt()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        ending = peer.run()
    except P2PSERError as error:
        tell({"kind": "failed", "reason": str(error), "exit_code": error.exit_code})
        sys.exit(error.exit_code)
    tell({"kind": "ended", "finished": ending.finished, "summary": ending.summary})


def _die_with_launcher(pipe: int) -> None:
    """End this process when the pipe's other end is closed: a peer that only waits would not write to it.

    The forkserver lives for as long as any child does, which inherits what it watches.
    """
    lifeline = select.poll()
    lifeline.register(pipe, 0)  # an error is always reported
    lifeline.poll()
    os._exit(1)


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent, the forkserver, dies; elsewhere the broken pipe does it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
