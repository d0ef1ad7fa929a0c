"""A network namespace for each peer of a trial, joined by a bridge: packets are lost as in a real network. Needs root.

A way is cut by giving the sender a wrong hardware address of the receiver: its packets go nowhere, silently. Delay and
loss need the kernel's netem, a rate its token bucket; they hold for all that a peer sends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace

from relays import Condition, Way

from p2pser.config import Config
from p2pser.graph.spec import PeerEntry, Topology

PORT = 5700
SUBNET = "10.213.77"
FIRST = 10
"""The last number of peer 0's address."""
NOBODY = "02:00:00:00:00:00"
MOST = 200
"""Peers that the subnet has room for."""


def ip(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command ip."""
    return subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True)


def lacking() -> str:
    """Return why there can be no namespaces here; an empty text where there can be."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "the commands ip and tc are missing"
    return "" if in_a_probe("ip", "link", "show") else "this system permits no network namespaces"


def shapes() -> bool:
    """Return whether the kernel can delay and lose packets (netem)."""
    return in_a_probe("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")


def in_a_probe(*command: str) -> bool:
    """Whether a command succeeds in a namespace of its own."""
    probe = f"p2pser-probe-{os.getpid()}"
    if ip("netns", "add", probe, check=False).returncode:
        return False
    try:
        done = subprocess.run(["ip", "netns", "exec", probe, *command], capture_output=True, check=False)
        return done.returncode == 0
    finally:
        ip("netns", "del", probe, check=False)


class Namespaces:
    """The network of a trial's peers (trials.Wires). A context manager."""

    def __init__(self, topology: Topology, seed: int = 0, subnet: str = SUBNET) -> None:
        if topology.size > MOST:
            raise ValueError(f"at most {MOST} peers in namespaces")
        self._topology, self._subnet = topology, subnet
        self._name = f"p2pser-{os.getpid()}"
        self._conditions: dict[Way, Condition] = {}

    def namespace(self, me: int) -> str:
        return f"{self._name}-{me}"

    def view(self, me: int, config: Config) -> tuple[Config, Topology]:
        """Return the run as all peers see it: each has an address of its own."""
        entries = {i: replace(self._topology.peers.get(i, PeerEntry()), address=f"tcp://{self.address(i)}:{PORT}")
                   for i in range(self._topology.size)}
        return config, replace(self._topology, peers=entries)

    def __enter__(self) -> Namespaces:
        self._remove()
        try:
            hub = f"{self._name}-hub"
            ip("netns", "add", hub)
            ip("-n", hub, "link", "add", "bridge", "type", "bridge")
            ip("-n", hub, "link", "set", "bridge", "up")
            for i in range(self._topology.size):
                own, port = self.namespace(i), f"port{i}"
                ip("netns", "add", own)
                ip("-n", own, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", hub)
                ip("-n", hub, "link", "set", port, "master", "bridge")
                ip("-n", hub, "link", "set", port, "up")
                ip("-n", own, "addr", "add", f"{self.address(i)}/24", "dev", "eth0")
                for link in ("eth0", "lo"):
                    ip("-n", own, "link", "set", link, "up")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def impose(self, conditions: Mapping[Way, Condition]) -> None:
        """Let these conditions hold from now on, and no others; all but cuts hold for all that the sender sends."""
        changed = {way for way in {*conditions, *self._conditions}
                   if conditions.get(way) != self._conditions.get(way)}
        self._conditions = dict(conditions)
        for way in sorted(changed):
            self._apply(way)

    def reset(self, i: int, j: int) -> None:
        """Break the connections between two peers, once."""
        with contextlib.suppress(OSError):
            subprocess.run(["ip", "netns", "exec", self.namespace(i), "ss", "-K", "dst", self.address(j)],
                           capture_output=True, check=False)

    def _apply(self, way: Way) -> None:
        sender, receiver = way
        own, now = self.namespace(sender), self._conditions.get(way, Condition())
        where = (self.address(receiver), "dev", "eth0")
        if now.cut:
            ip("-n", own, "neigh", "replace", where[0], "lladdr", NOBODY, *where[1:], "nud", "permanent")
        else:
            ip("-n", own, "neigh", "del", *where, check=False)
        mine = [condition for (source, _), condition in self._conditions.items() if source == sender]
        delay = max((one.delay for one in mine), default=0.0)
        loss = max((one.loss for one in mine), default=0.0)
        rate = min((one.rate for one in mine), default=float("inf"))
        shape = [*(["delay", f"{delay * 1000:.0f}ms"] if delay else []),
                 *(["loss", f"{loss * 100:.2f}%"] if loss else []),
                 *(["rate", f"{rate * 8:.0f}bit"] if rate < float("inf") else [])]
        change = ["replace", "dev", "eth0", "root", "netem", *shape] if shape else ["del", "dev", "eth0", "root"]
        subprocess.run(["ip", "netns", "exec", own, "tc", "qdisc", *change], capture_output=True, check=bool(shape))

    def _remove(self) -> None:
        for name in (f"{self._name}-hub", *map(self.namespace, range(self._topology.size))):
            ip("netns", "del", name, check=False)

    def address(self, peer: int) -> str:
        return f"{self._subnet}.{FIRST + peer}"
