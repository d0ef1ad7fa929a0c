"""A diagnosis of a neighbour's address by a plain TCP connection, with what the operator can do."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from enum import Enum

from p2pser.base.hosts import host_of

CONNECT, GREETING = 5.0, 2.0
"""Longest wait for a connection, and for the greeting that a peer sends immediately [s]."""
_NO_WAY = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EADDRNOTAVAIL)


class Reach(Enum):
    """The possible results at an address."""

    PEER = "a peer listens"
    NO_NAME = "unknown name"
    NOTHING = "nothing answers"
    FILTERED = "filtered"
    NOT_STARTED = "not started"
    OTHER = "another program"


@dataclass(frozen=True)
class Found:
    """The result at an address, and a sentence with the remedy; empty for a peer."""

    reach: Reach
    sentence: str = ""


def look(address: str, timeout: float = CONNECT) -> Found:
    """Dial ``tcp://HOST:PORT`` once and wait for ZeroMQ's greeting. timeout : longest wait for the connection [s]."""
    host, port = host_of(address).strip("[]"), int(address.rpartition(":")[2])
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return Found(Reach.NO_NAME, f"the name {host} is not known here: correct it in the topology file, or ask for "
                                    "an entry in the name service (DNS)")
    outcome = Found(Reach.NOTHING)
    for family, kind, protocol, _, place in places:
        try:
            with socket.socket(family, kind, protocol) as link:
                outcome = _dialled(link, place, host, port, timeout)
        except OSError as error:  # the address family is not supported, or no descriptor is free
            outcome = Found(Reach.NOTHING, f"this machine cannot dial it: {error.strerror}")
        if outcome.reach is Reach.PEER:
            break
    return outcome


def _dialled(link: socket.socket, place: tuple[object, ...], host: str, port: int, timeout: float) -> Found:
    link.settimeout(timeout)
    try:
        link.connect(place)
    except TimeoutError:
        return Found(Reach.FILTERED, f"packets to port {port} of {host} are not answered: a firewall drops them, there "
                                     "or on the way (let it admit TCP to this port), or that machine is off")
    except ConnectionRefusedError:
        return Found(Reach.NOT_STARTED, f"the machine {host} answers, but no program listens at its port {port}: start "
                                        "the peer (or its check) there; if it runs, compare the port, and ask whether "
                                        "a firewall rejects the connection")
    except OSError as error:
        if error.errno in _NO_WAY:
            return Found(Reach.NOTHING, f"no machine answers at {host} ({error.strerror}): it is off, has another "
                                        "address, or is not connected to this network (cable, VPN, route)")
        return Found(Reach.NOTHING, f"{host} cannot be dialled ({error.strerror})")
    link.settimeout(GREETING)
    try:
        greeting = link.recv(1)
    except OSError:
        greeting = b""
    if greeting == b"\xff":
        return Found(Reach.PEER)
    return Found(Reach.OTHER, f"another program listens at port {port} of {host}, or a tunnel whose other end does not "
                              "answer: compare the port, and check which program listens there")
