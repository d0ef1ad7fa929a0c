"""ZeroMQ sockets with the options that the protocol relies on; all queues and messages are bounded.

ROUTING_ID and ROUTER_HANDOVER are never set: they would let an authenticated peer receive another peer's replies.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

import zmq

from p2pser.base.errors import ConfigError
from p2pser.network.keys import KeyPair
from p2pser.network.neighbour import Contact
from p2pser.wire.messages import MAX_FRAME

HIGH_WATER = 48
"""Messages that a socket may hold: the largest credit window in chunks, and room for control messages."""
SEND_BUFFER = 128 * 1024
"""Kernel buffer [B]: a PING cannot overtake the data in it."""
AT_ONCE = 64
"""Messages read from a socket in one go, before the other sockets and the clock have their turn."""
HEARTBEAT_MS = 30_000
"""ZMTP heartbeats, against half-open connections only; failure detection is our own (neighbour.py)."""

_DIALLING = zmq.EVENT_CONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | \
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_DISCONNECTED | \
    zmq.EVENT_CONNECT_RETRIED
_LISTENING = zmq.EVENT_LISTENING | zmq.EVENT_ACCEPTED | zmq.EVENT_ACCEPT_FAILED | zmq.EVENT_DISCONNECTED | \
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_HAPPENED = struct.Struct("=Hi")


def listener(context: zmq.Context[zmq.Socket[bytes]], address: str, keys: KeyPair) -> zmq.Socket[bytes]:
    """Return a ROUTER, to be bound with ``bind``."""
    socket = _bounded(context.socket(zmq.ROUTER))
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.curve_publickey, socket.curve_secretkey = keys.public.encode(), keys.secret.encode()
    socket.setsockopt(zmq.ZAP_DOMAIN, b"p2pser")
    # On all interfaces an IPv6 socket takes IPv4 connections too; a machine without IPv6 falls back to IPv4.
    socket.setsockopt(zmq.IPV6, "[" in address or "//*:" in address)
    return socket


def bind(socket: zmq.Socket[bytes], address: str) -> None:
    """Listen. Raises ConfigError where the address cannot be listened on."""
    try:
        # ZeroMQ resolves host names for dialling, not for listening.
        socket.bind(address.replace("//localhost:", "//127.0.0.1:"))
    except zmq.ZMQError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"the port of {address} is already taken: another peer runs there, of this or another "
                              "run, or another program; stop it, or give this run other ports (network.base_port, or "
                              "addresses in the topology file)") from None
        raise ConfigError(f"cannot listen on {address}: {_why(error)}") from None


def dialler(context: zmq.Context[zmq.Socket[bytes]], contact: Contact, keys: KeyPair) -> zmq.Socket[bytes]:
    """Return a DEALER for a neighbour; it dials again and again, unless the answer violates ZeroMQ's protocol.

    Raises ConfigError where the neighbour's key is no public key.
    """
    socket = _bounded(context.socket(zmq.DEALER))
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, 100)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
    socket.setsockopt(zmq.IPV6, contact.ipv6)
    try:
        socket.curve_serverkey = contact.key.encode()
    except zmq.ZMQError:
        socket.close(0)  # else the context could not end
        raise ConfigError(f"the key {contact.key!r} of the neighbour at {contact.address} is no public key; the "
                          "command p2pser keys makes a key pair and prints its public key") from None
    socket.curve_publickey, socket.curve_secretkey = keys.public.encode(), keys.secret.encode()
    return socket


def endpoint(socket: zmq.Socket[bytes]) -> str:
    """Return the endpoint to which a listener is bound."""
    return socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")


def prober(context: zmq.Context[zmq.Socket[bytes]], contact: Contact) -> zmq.Socket[bytes]:
    """Return a raw TCP socket (STREAM) that dials once; ``greeted`` finds out whether a ZeroMQ socket listens there.

    ZeroMQ does not report how far a CURVE handshake had come when it broke. But a listener sends its greeting at once,
    whatever the other end sends, so the greeting always arrives.
    """
    socket = _bounded(context.socket(zmq.STREAM))
    socket.setsockopt(zmq.RECONNECT_IVL, -1)
    socket.setsockopt(zmq.IPV6, contact.ipv6)
    return socket


def greeted(probe: zmq.Socket[bytes]) -> bool:
    """Whether a prober has received ZMTP's greeting."""
    return any(frames[-1].bytes[:1] == b"\xff" for frames in received(probe))


def connect(socket: zmq.Socket[bytes], address: str) -> None:
    """Dial. Raises ConfigError where the address is invalid."""
    try:
        socket.connect(address)
    except zmq.ZMQError as error:
        raise ConfigError(f"cannot dial {address}: {_why(error)}; write tcp://HOST:PORT") from None


def watch(socket: zmq.Socket[bytes], *, dials: bool) -> zmq.Socket[bytes]:
    """Return the monitor of a socket, to be read with ``happened``. On failure close the socket and raise ZMQError."""
    try:
        return socket.get_monitor_socket(_DIALLING if dials else _LISTENING)
    except zmq.ZMQError:
        socket.close(0)
        raise


def happened(monitor: zmq.Socket[bytes], most: int = AT_ONCE) -> Iterator[tuple[int, int]]:
    """Yield at most ``most`` events of a monitored socket, each with ZeroMQ's value: a file descriptor, or an error."""
    for message in received(monitor, most):
        if len(message) == 2 and len(message[0].buffer) == _HAPPENED.size:
            yield _HAPPENED.unpack(message[0].buffer)


def received(socket: zmq.Socket[bytes], most: int = AT_ONCE) -> Iterator[list[zmq.Frame]]:
    """Yield at most ``most`` of the messages that wait at a socket."""
    for _ in range(most):
        try:
            yield socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return


def close(socket: zmq.Socket[bytes], monitor: zmq.Socket[bytes] | None, linger: float) -> None:
    """Close a socket and its monitor; the socket may take ``linger`` seconds to send what it holds."""
    if monitor is not None:
        for _ in happened(monitor, most=1 << 16):  # a full monitor would block ZeroMQ, and then this thread
            pass
        socket.disable_monitor()
        monitor.close(0)
    socket.close(int(linger * 1000))


def _why(error: zmq.ZMQError) -> str:
    return zmq.strerror(error.errno) if error.errno is not None else str(error)


def _bounded(socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    for option, value in (
        (zmq.LINGER, 0), (zmq.SNDTIMEO, 0), (zmq.SNDHWM, HIGH_WATER), (zmq.RCVHWM, HIGH_WATER),
        (zmq.MAXMSGSIZE, MAX_FRAME), (zmq.HANDSHAKE_IVL, 5000), (zmq.SNDBUF, SEND_BUFFER),
        (zmq.HEARTBEAT_IVL, HEARTBEAT_MS), (zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_MS),
    ):
        socket.setsockopt(option, value)
    return socket
