"""Several peers as processes of this machine, forked from a server that has imported their modules.

The launcher itself does not import torch. Each child reports through a pipe, and ends when its launcher ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from p2pser.base.errors import ConfigError, P2PSERError
from p2pser.base.frames import frame
from p2pser.base.processes import refuse_unguarded_script
from p2pser.base.registries import ALGORITHMS, FAMILIES
from p2pser.config import Config
from p2pser.graph.spec import Topology
from p2pser.run.account import INCOMPLETE, complete

if TYPE_CHECKING:
    import pandas

    from p2pser.features.federation import Federation

PRELOAD = "p2pser.peer.preload"
Work: TypeAlias = "Callable[[Config, Topology, int, bool, Connection, Federation | None], None]"
"""The function of a child process: (config, topology, peer, fresh, pipe to the launcher, data)."""
PORTS = range(20000, 32000)
"""Ports among which free ones are searched: below the range that systems use for outgoing connections."""
_PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """The process of a local peer, and the parent's end of its pipe."""

    peer: int
    process: BaseProcess
    pipe: Connection


class LocalPeers:
    """Peers ``ids`` of a topology as processes of this machine.

    A context manager, which kills the processes that are still running at its end.

    Parameters
    ----------
    config, topology : the run's.
    ids : the peers to start; default: all of the topology.
    fresh : remove the files of an earlier run in the peers' folders.
    federation : the data of all these peers; default: each reads its own.
    """

    def __init__(self, config: Config, topology: Topology, ids: Sequence[int] | None = None, *, fresh: bool = False,
                 federation: Federation | None = None):
        self.children: dict[int, Child] = {}
        """The latest process of each peer."""
        self._started: list[Child] = []
        self._open: list[Child] = []
        """The processes whose pipe has not ended."""
        self._context = multiprocessing.get_context("forkserver")
        self._config, self._topology, self._fresh, self._federation = config, topology, fresh, federation
        self._ids = tuple(range(topology.size)) if ids is None else tuple(ids)

    def __enter__(self) -> LocalPeers:
        start_forkserver(self._config)
        try:
            for peer in self._ids:
                self.start(peer, fresh=self._fresh)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        for child in self._started:
            child.process.kill()
        for child in self._started:
            child.process.join()
            child.process.close()
            child.pipe.close()

    def start(self, peer: int, *, fresh: bool = False, work: Work | None = None,
              run: tuple[Config, Topology] | None = None) -> None:
        """Start a peer, or start it again.

        Parameters
        ----------
        peer : its id.
        fresh : remove the files of an earlier run in its folder.
        work : the child's function, in place of ``child_work`` and with its arguments.
        run : the configuration and the topology of this peer, if they differ from the others'.
        """
        config, topology = run or (self._config, self._topology)
        here, there = self._context.Pipe(duplex=False)
        own = None if self._federation is None else self._federation.of_peer(peer)
        process = self._context.Process(target=work or child_work, args=(config, topology, peer, fresh, there, own),
                                        name=f"p2pser-peer-{peer}", daemon=True)
        process.start()
        there.close()
        child = self.children[peer] = Child(peer, process, here)
        self._started.append(child)
        self._open.append(child)

    def kill(self, peer: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to a peer's process, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid(peer), number)

    def pid(self, peer: int) -> int:
        """Return the process id of a peer."""
        pid: int | None = self.children[peer].process.pid
        if pid is None:
            raise ValueError(f"peer {peer} has not been started")
        return int(pid)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the children's records in the order of arrival, until all have ended.

        ``reporter`` is the peer that sent a record; in events of the network, ``peer`` is the neighbour. In addition to
        the records of telemetry: ``{"kind": "say", "sentence"}``, ``{"kind": "sketch", …}``,
        ``{"kind": "ended", "finished", "summary"}``, ``{"kind": "failed", "reason", "exit_code"}`` and, as the last of
        each peer, ``{"kind": "gone", "exit_code"}`` (negative: the signal that ended it).
        """
        while self.running():
            yield from self.news(None)

    def running(self) -> tuple[int, ...]:
        """Return the peers that have not been reported ``gone`` yet."""
        return tuple(sorted({child.peer for child in self._open}))

    def news(self, timeout: float | None) -> Iterator[dict[str, Any]]:
        """Yield the available records; if there is none, wait at most ``timeout`` seconds (None: no limit)."""
        pipes = {child.pipe: child for child in self._open}
        for ready in multiprocessing.connection.wait(list(pipes), timeout):
            child = pipes[ready]  # type: ignore[index]
            try:
                yield {"peer": child.peer, **_read(child.pipe.recv_bytes()), "reporter": child.peer}
            except (EOFError, OSError):  # OSError: killed while it was sending a record
                self._open.remove(child)
                child.process.join()
                yield {"peer": child.peer, "kind": "gone", "exit_code": child.process.exitcode, "reporter": child.peer}


def start_forkserver(config: Config) -> None:
    """Start the process that peers are forked from. It imports their modules while the caller continues."""
    refuse_unguarded_script()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, str(config.training.threads))
    os.environ.setdefault("MALLOC_ARENA_MAX", "1")  # glibc: one heap per process instead of one per thread
    # PRELOAD is last, since it freezes the objects that exist then. A missing package is reported by the peer.
    algorithm = ALGORITHMS.module(config.gossip.algorithm)
    budget = ["dp_accounting.pld"] if config.privacy.epsilon else []  # importing it takes each peer a second
    calibration = ["scipy.optimize"] if config.training.held_out else []
    modules = [*FAMILIES[config.model.name].preload, *([algorithm] if algorithm else []), *budget, *calibration,
               PRELOAD]
    multiprocessing.get_context("forkserver").set_forkserver_preload(modules)
    multiprocessing.forkserver.ensure_running()


@dataclass(frozen=True)
class Launch:
    """The results of the peers of a launched run.

    summaries : of each peer, in the order of their ids, as plain data. ``agreed`` (None if each peer keeps a model of
        its own), ``took_part`` and ``peers`` are numbers of peers.
    """

    summaries: tuple[dict[str, Any], ...]

    @property
    def exit_code(self) -> int:
        """The exit code of a command that runs these peers: 3 if a peer ended without another peer, else 0."""
        return 0 if all(map(complete, self.summaries)) else INCOMPLETE

    def to_frame(self) -> pandas.DataFrame:
        """Return a pandas frame with a line per peer. Raises ConfigError where pandas is not installed."""
        return frame(self.summaries)


def run_all(config: Config, topology: Topology, observe: Callable[[dict[str, Any]], None] | None = None,
            federation: Federation | None = None) -> Launch:
    """Run all peers of a topology as processes of this machine, from the start, and return their results.

    Parameters
    ----------
    config, topology : the run's. If ``network.base_port`` is not set, the peers listen on free ports.
    observe : called with every record of every peer.
    federation : the data of all peers; default: each reads its own.

    Raises P2PSERError where a peer fails.
    """
    if "base_port" not in config.network.model_fields_set:
        config = config.with_settings([f"network.base_port={free_base_port(topology.size)}"])
    config = among_own_peers(config)
    summaries: dict[int, dict[str, Any]] = {}
    failures: dict[int, str] = {}
    with LocalPeers(config, topology, fresh=True, federation=federation) as peers:
        for record in peers.records():
            peer, kind = record["reporter"], record.get("kind")
            if observe is not None:
                observe(record)
            if kind == "ended":
                summaries[peer] = record["summary"]
            elif kind == "failed":
                failures[peer] = record["reason"]
            elif kind == "gone" and peer not in summaries:
                failures.setdefault(peer, f"its process ended with exit code {record['exit_code']}")
    if failures:
        raise P2PSERError("; ".join(f"peer {peer} failed: {reason}" for peer, reason in sorted(failures.items())))
    return Launch(tuple(summaries[peer] for peer in sorted(summaries)))


def among_own_peers(config: Config) -> Config:
    """Return the settings of a run whose peers one launcher starts, once; settings of the user stay.

    No peer is started again, and all belong to one user: so the run's draws come from the seed, and it has the
    simulator's bits. A budget needs noise from secret keys all the same.
    """
    return config.with_settings([
        *([] if "serve_after" in config.network.model_fields_set else ["network.serve_after=0"]),
        *([] if "hub_wait" in config.network.model_fields_set else ["network.hub_wait=0"]),
        *([] if "draws" in config.privacy.model_fields_set or config.privacy.epsilon else ["privacy.draws=seed"])])


def free_base_port(count: int, host: str = "127.0.0.1") -> int:
    """Return a port p such that p .. p + count - 1 are free now. Raises ConfigError where there is none."""
    first = PORTS.start + os.getpid() * 64 % max(1, len(PORTS) - count)
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


def require_fitting(config: Config, topology: Topology) -> None:
    """Raise ConfigError or P2PSERError where the algorithm and the model of a run do not fit it (``run.fitting``). A
    child process checks it, since this process does not import torch.
    """
    context = multiprocessing.get_context("forkserver")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_say_what_does_not_fit, args=(config, topology, there), daemon=True)
    process.start()
    there.close()
    with here:
        try:
            reason, exit_code = json.loads(here.recv_bytes())
        except EOFError:  # the code of a plug-in may raise anything, and memory may run out
            process.join()
            raise P2PSERError("the process that checks the settings of this run ended with exit code "
                              f"{process.exitcode}: its own message is above") from None
    process.join()
    if reason is not None:
        raise (ConfigError if exit_code == ConfigError.exit_code else P2PSERError)(reason)


def _say_what_does_not_fit(config: Config, topology: Topology, pipe: Connection) -> None:
    from p2pser.run.fitting import fitting

    answer: tuple[str | None, int] = (None, 0)
    try:
        fitting(config, topology)
    except P2PSERError as error:
        answer = str(error), error.exit_code
    pipe.send_bytes(json.dumps(answer).encode())


def child_work(config: Config, topology: Topology, me: int, fresh: bool, pipe: Connection,
               federation: Federation | None) -> None:
    """Run one peer in a child process, and report to the launcher through the pipe."""
    _die_with_parent()
    threading.Thread(target=_die_with_launcher, args=(pipe.fileno(),), name="p2pser-lifeline", daemon=True).start()
    from p2pser.peer.process import Peer

    def tell(record: dict[str, Any]) -> None:
        try:
            pipe.send_bytes(_written(record))
        except BrokenPipeError:
            os._exit(1)  # the launcher is gone

    peer = Peer(config, topology, me, fresh=fresh, sink=tell, federation=federation,
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
    sys.exit(ending.exit_code)


def _written(record: Mapping[str, Any]) -> bytes:
    """Return a line of JSON, followed by the bytes of a sketch."""
    sketch: bytes = record.get("sketch", b"")
    return json.dumps({key: value for key, value in record.items() if value is not sketch}).encode() + b"\n" + sketch


def _read(message: bytes) -> dict[str, Any]:
    line, _, sketch = message.partition(b"\n")
    record: dict[str, Any] = json.loads(line)
    return {**record, "sketch": sketch} if sketch else record


def _die_with_launcher(pipe: int) -> None:
    """End this process when the pipe's other end is closed. A waiting peer writes nothing, and would not notice it.

    The forkserver does not end it: it lives as long as any child that has inherited the descriptor it watches.
    """
    lifeline = select.poll()
    lifeline.register(pipe, 0)  # an error is always reported
    lifeline.poll()
    os._exit(1)


def _die_with_parent() -> None:
    """Let Linux kill this process when its parent, the forkserver, dies; elsewhere the broken pipe ends it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
