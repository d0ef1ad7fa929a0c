"""Hosts in endpoints: names, IPv4 addresses, and IPv6 addresses in brackets."""

from __future__ import annotations

import ipaddress
import re
import socket

EVERYWHERE = "*"
"""The host of an endpoint that listens on all interfaces, IPv4 and IPv6."""


def checked_host(host: str) -> str:
    """Return the host. Raises ValueError, with a correction, where it is invalid."""
    if not host or any(c.isspace() or c in "/@" for c in host):
        raise ValueError("it is not a host name")
    if host == EVERYWHERE:
        return host
    if host[0] == "[" or host[-1] == "]":
        _ip(host[1:-1] if host[0] + host[-1] == "[]" else "", 6)
    elif ":" in host:
        _ip(host, 6)
        raise ValueError(f"write an IPv6 address in brackets: [{host}]")
    elif set(host) <= set("0123456789."):
        _ip(host, 4)
    elif not re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]*", host):  # ZeroMQ would refuse it when it dials
        raise ValueError("it is not a host name: host names have the letters a to z, digits, '-' and '.'")
    return host


def dialled_host(host: str) -> str:
    """Return a host that other machines can dial. Raises ValueError, with a correction, where they cannot."""
    plain = checked_host(host).strip("[]")
    if plain in (EVERYWHERE, "0.0.0.0") or (":" in plain and ipaddress.ip_address(plain).is_unspecified):
        raise ValueError("it means all interfaces of a machine, and no other machine can dial it: write the address "
                         "at which the neighbours reach this peer (the entry 'listen' may be tcp://*:PORT)")
    return host


def host_of(endpoint: str) -> str:
    """Return the host of ``tcp://HOST:PORT``."""
    return endpoint.removeprefix("tcp://").rpartition(":")[0]


def is_name(host: str) -> bool:
    """Whether a host is a name that a name server is asked for: neither an address nor this machine."""
    return not (host[:1] == "[" or host == "localhost" or set(host) <= set("0123456789."))


def only_ipv6(host: str) -> bool:
    """Whether a host is an IPv6 address in brackets, or a name that stands for such addresses only."""
    if not is_name(host):
        return host[:1] == "["
    try:
        return {family for family, *_ in socket.getaddrinfo(host, None)} == {socket.AF_INET6}
    except OSError:  # unknown name; it is resolved again with every attempt to dial
        return False


def _ip(text: str, version: int) -> None:
    try:
        if ipaddress.ip_address(text).version == version:
            return
    except ValueError:
        pass
    raise ValueError(f"it is not an IPv{version} address" + ("; write one as [2001:db8::1]" if version == 6 else ""))
