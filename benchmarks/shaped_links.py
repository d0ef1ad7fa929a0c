"""Network namespaces whose links have a rate and a latency, without the kernel's netem. Needs root.

Each peer has a namespace with a TUN device. Its packets pass a token bucket (tc tbf), and a relay process writes each
to the receiver's device after the latency, so that both act on TCP as on a real line.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import select
import signal
import struct
import threading
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import namespaces
from lives import enter
from namespaces import FIRST, Namespaces, in_a_probe, ip

from p2pser.graph.spec import Topology
from p2pser.simulation.links import Links

TUN = Path("/dev/net/tun")
SET_NAME, FLAGS = 0x400454CA, 0x0001 | 0x1000
"""ioctl TUNSETIFF, and IFF_TUN | IFF_NO_PI."""
SUBNET = "10.213.78"
QUEUE = 1 << 20
"""Bytes that wait for a line before packets are dropped."""


def lacking() -> str:
    """Return why links cannot be shaped here; an empty text where they can."""
    if why := namespaces.lacking():
        return why
    if not TUN.exists():
        return "shaped links need TUN devices (/dev/net/tun)"
    bucket = ("tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "1mbit", "burst", "5kb", "limit", "100kb")
    return "" if in_a_probe(*bucket) else "this system has no token bucket (tc tbf)"


class Shaped(Namespaces):
    """The network of a run's peers with such links (trials.Wires). A context manager."""

    def __init__(self, topology: Topology, links: Links) -> None:
        super().__init__(topology, subnet=SUBNET)
        self._links = links
        self._relay: Any = None

    def __enter__(self) -> Shaped:
        peers = range(self._topology.size)
        self._remove()
        try:
            names = [self.namespace(i) for i in peers]
            for name in names:
                ip("netns", "add", name)
            ours, theirs = get_context("fork").Pipe()
            delays = [[self._links.latency(dst, src) for dst in peers] for src in peers]
            self._relay = get_context("fork").Process(target=_relay, args=(theirs, names, delays))
            self._relay.start()
            ours.recv()
            for i, name in enumerate(names):
                ip("-n", name, "addr", "add", f"{self.address(i)}/24", "dev", "tun0")
                for device in ("tun0", "lo"):
                    ip("-n", name, "link", "set", device, "up")
                rate = self._links.at(i).up
                if rate < 100e6:
                    ip("netns", "exec", name, "tc", "qdisc", "add", "dev", "tun0", "root", "tbf", "rate",
                       f"{rate * 8:.0f}bit", "burst", f"{max(4000, int(rate / 200))}", "limit", str(QUEUE))
        except BaseException:
            self._remove()
            raise
        return self

    def _remove(self) -> None:
        if self._relay is not None:
            self._relay.terminate()
            self._relay.join()
        super()._remove()


def _opened(namespace: str) -> int:
    """Return the descriptor of a new TUN device in a namespace."""
    descriptors = []

    def inside() -> None:
        enter(namespace)
        device = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, SET_NAME, struct.pack("16sH", b"tun0", FLAGS))
        descriptors.append(device)

    thread = threading.Thread(target=inside)  # only this thread moves to the namespace
    thread.start()
    thread.join()
    return descriptors[0]


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
