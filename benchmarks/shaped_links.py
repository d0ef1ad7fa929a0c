"""Network namespaces whose links have a rate and a latency, without the kernel's netem. Needs root.

Each peer has a namespace with a TUN device. What it sends passes a token bucket (tc tbf), and a relay process hands
each packet to the receiver's device after the latency: so TCP sees both as on a real line.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import select
import signal
import struct
import subprocess
import threading
import time
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from trials import enter

from p2pser.config import Config
from p2pser.graph.spec import PeerEntry, Topology
from p2pser.simulation.links import Links

TUN = Path("/dev/net/tun")
SET_NAME, FLAGS = 0x400454CA, 0x0001 | 0x1000
"""ioctl TUNSETIFF, and IFF_TUN | IFF_NO_PI."""
SUBNET, FIRST, PORT = "10.213.78", 10, 5700
QUEUE = 1 << 20
"""Bytes that wait for a line before packets are dropped."""


def lacking() -> str:
    """Return why links cannot be shaped here; an empty text where they can."""
    if os.geteuid() != 0:
        return "shaped links need root"
    if not TUN.exists():
        return "shaped links need TUN devices (/dev/net/tun)"
    probe = f"p2pser-probe-{os.getpid()}"
    try:
        if _run("ip", "netns", "add", probe, check=False).returncode:
            return "this system permits no network namespaces"
        shape = ("ip", "netns", "exec", probe, "tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "1mbit",
                 "burst", "5kb", "limit", "100kb")
        return "" if _run(*shape, check=False).returncode == 0 else "this system has no token bucket (tc tbf)"
    except FileNotFoundError:
        return "the commands ip and tc are missing"
    finally:
        _run("ip", "netns", "del", probe, check=False)


def _run(*command: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, check=check, capture_output=True)


class Shaped:
    """The network of a run's peers with such links (trials.Wires). A context manager."""

    def __init__(self, topology: Topology, links: Links) -> None:
        self._topology, self._links = topology, links
        self._name = f"p2pser-shaped-{os.getpid()}"
        self._relay: Any = None

    def namespace(self, me: int) -> str:
        return f"{self._name}-{me}"

    def view(self, me: int, config: Config) -> tuple[Config, Topology]:
        """Return the run as all peers see it: each has an address of its own."""
        return config, replace(self._topology, peers={
            i: PeerEntry(address=f"tcp://{SUBNET}.{FIRST + i}:{PORT}") for i in range(self._topology.size)})

    def __enter__(self) -> Shaped:
        peers = range(self._topology.size)
        self._remove()
        try:
            for i in peers:
                _run("ip", "netns", "add", self.namespace(i))
            ours, theirs = get_context("fork").Pipe()
            delays = [[self._links.latency(dst, src) for dst in peers] for src in peers]
            names = [self.namespace(i) for i in peers]
            self._relay = get_context("fork").Process(target=_relay, args=(theirs, names, delays))
            self._relay.start()
            ours.recv()
            for i in peers:
                ip = ("ip", "-n", self.namespace(i))
                _run(*ip, "addr", "add", f"{SUBNET}.{FIRST + i}/24", "dev", "tun0")
                for device in ("tun0", "lo"):
                    _run(*ip, "link", "set", device, "up")
                rate = self._links.at(i).up
                if rate < 100e6:
                    _run("ip", "netns", "exec", self.namespace(i), "tc", "qdisc", "add", "dev", "tun0", "root", "tbf",
                         "rate", f"{rate * 8:.0f}bit", "burst", f"{max(4000, int(rate / 200))}", "limit", str(QUEUE))
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _remove(self) -> None:
        if self._relay is not None:
            self._relay.terminate()
            self._relay.join()
        for i in range(self._topology.size):
            _run("ip", "netns", "del", self.namespace(i), check=False)


def _opened(namespace: str) -> int:
    """Return the descriptor of a new TUN device in a namespace."""
    found = []

    def inside() -> None:
        enter(namespace)
        device = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, SET_NAME, struct.pack("16sH", b"tun0", FLAGS))
        found.append(device)

    thread = threading.Thread(target=inside)  # only this thread moves to the namespace
    thread.start()
    thread.join()
    return found[0]


def _relay(ready: Connection, namespaces: list[str], delays: list[list[float]]) -> None:
    """Hand each packet to its receiver after the delay, until the process is ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    devices = [_opened(name) for name in namespaces]
    ready.send(True)
    source = {device: i for i, device in enumerate(devices)}
    poll = select.poll()
    for device in devices:
        poll.register(device, select.POLLIN)
    waiting: list[tuple[float, int, int, bytes]] = []
    count = 0
    while True:
        wait = None if not waiting else max(0.0, waiting[0][0] - time.monotonic()) * 1000
        for device, _ in poll.poll(wait):
            try:
                packet = os.read(device, 65536)
            except OSError:
                continue
            to = packet[19] - FIRST if packet[0] >> 4 == 4 else -1
            if 0 <= to < len(devices):
                count += 1
                heapq.heappush(waiting, (time.monotonic() + delays[source[device]][to], count, to, packet))
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, to, packet = heapq.heappop(waiting)
            try:
                os.write(devices[to], packet)
            except OSError:
                continue
