"""ZeroMQ's TCP connections by their file descriptors, which stay ZeroMQ's: what its own options cannot do.

ZeroMQ accepts every client that dials, and closes an accepted connection only with its listener, which would end those
of all neighbours too. So a connection is shut down beneath it, and a listener is made deaf by a filter of the kernel's.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import resource
import socket
import struct
import sys
from collections.abc import Iterator

MOST = 65536
"""Largest limit of open descriptors that a process asks for."""

_LINUX = sys.platform.startswith("linux")
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_RECEIVED = struct.Struct("<Q")
_RECEIVED_AT = 128
"""Where Linux's TCP_INFO holds the bytes received."""


def raise_limit() -> int:
    """Raise this process's limit of open descriptors as far as it may (at most to MOST); return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # a system may forbid it: the limit stays
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return limit()


def limit() -> int:
    """Return how many descriptors this process may have open (at most MOST)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else min(soft, MOST)


def host(descriptor: int) -> str:
    """Return the address of a connection's other end, of IPv6 its network; empty where it has ended."""
    with contextlib.suppress(OSError), _borrowed(descriptor) as connection:
        return origin(str(connection.getpeername()[0]))
    return ""


def origin(address: str) -> str:
    """Return what stands for one machine: an IPv4 address, or the /64 network of an IPv6 address."""
    ip = ipaddress.ip_address(address)
    if ip.version == 4:
        return address
    return str(ip.ipv4_mapped or ipaddress.ip_network((int(ip) >> 64 << 64, 64)))


def cut(descriptor: int, port: int | None = None) -> bool:
    """End a connection; ZeroMQ then closes it. False where it has ended already.

    port : that of our end. ZeroMQ may have closed the descriptor since, and this process opened another file by it.
    """
    with contextlib.suppress(OSError), _borrowed(descriptor) as connection:
        if port is None or connection.getsockname()[1] == port:
            connection.shutdown(socket.SHUT_RDWR)
            return True
    return False


def received(descriptor: int) -> int:
    """Return how many bytes have come over a connection; 0 where the system does not tell."""
    if _LINUX:
        with contextlib.suppress(OSError, struct.error), _borrowed(descriptor) as connection:
            told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED_AT + _RECEIVED.size)
            return int(_RECEIVED.unpack_from(told, _RECEIVED_AT)[0])
    return 0


def deafen(listener: int) -> bool:
    """Let the kernel drop whatever dials; False where it cannot. Connections stay. Who dials tries again by itself."""
    if not _LINUX:
        return False
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # one instruction: accept 0 bytes
    with contextlib.suppress(OSError), _borrowed(listener) as one:
        one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(drop_all)))
        return True
    return False


def hear(listener: int) -> None:
    """Take those that dial again."""
    with contextlib.suppress(OSError), _borrowed(listener) as one:
        one.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """Give a socket of a descriptor without taking it over. Raises OSError where it is none (any more)."""
    one = socket.socket(fileno=descriptor)
    try:
        yield one
    finally:
        one.detach()
