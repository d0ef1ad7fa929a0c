"""Operations on ZeroMQ's TCP connections, by file descriptor, that ZeroMQ's own options do not offer.

ZeroMQ accepts every client that dials, and closes an accepted connection only together with its listener, which would
end the connections of all neighbours. So a single connection is shut down at its TCP socket, and a listener stops
accepting by a packet filter of the kernel. The descriptors stay ZeroMQ's.
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
"""Largest limit of open descriptors that a process requests."""

_LINUX = sys.platform.startswith("linux")
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_RECEIVED = struct.Struct("<Q")
_RECEIVED_AT = 128
"""Offset of the bytes received in Linux's TCP_INFO."""


def raise_limit() -> int:
    """Raise this process's limit of open descriptors as far as allowed (at most to MOST); return the limit."""
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
    """Return the address of a connection's other end, as ``origin`` does; empty where the connection has ended."""
    with contextlib.suppress(OSError), _borrowed(descriptor) as connection:
        return origin(str(connection.getpeername()[0]))
    return ""


def origin(address: str) -> str:
    """Return the identity of a machine: its IPv4 address, or the /64 network of its IPv6 address."""
    ip = ipaddress.ip_address(address)
    if ip.version == 4:
        return address
    return str(ip.ipv4_mapped or ipaddress.ip_network((int(ip) >> 64 << 64, 64)))


def cut(descriptor: int, port: int | None = None) -> bool:
    """End a connection; ZeroMQ then closes it. False where it has already ended.

    port : the port of our end, which must be right: the descriptor's number may since stand for another connection.
    """
    with contextlib.suppress(OSError), _borrowed(descriptor) as connection:
        if port is None or connection.getsockname()[1] == port:
            connection.shutdown(socket.SHUT_RDWR)
            return True
    return False


def received(descriptor: int) -> int:
    """Return how many bytes a connection has received; 0 where the system does not report it."""
    if _LINUX:
        with contextlib.suppress(OSError, struct.error), _borrowed(descriptor) as connection:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED_AT + _RECEIVED.size)
            return int(_RECEIVED.unpack_from(info, _RECEIVED_AT)[0])
    return 0


def stop_accepting(listener: int) -> bool:
    """Let the kernel drop new connections to a listener; False where it cannot. Clients dial again by themselves."""
    if not _LINUX:
        return False
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # one instruction: accept 0 bytes
    with contextlib.suppress(OSError), _borrowed(listener) as listening:
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(drop_all)))
        return True
    return False


def resume_accepting(listener: int) -> None:
    """Let a listener accept connections again."""
    with contextlib.suppress(OSError), _borrowed(listener) as listening:
        listening.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """Yield a socket object of a descriptor, which stays open. Raises OSError where it is no socket (any more)."""
    borrowed = socket.socket(fileno=descriptor)
    try:
        yield borrowed
    finally:
        borrowed.detach()
