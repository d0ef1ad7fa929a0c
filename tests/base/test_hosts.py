"""Hosts as operators write them."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from p2pser.base.hosts import checked_host, dialled_host, host_of, only_ipv6


@pytest.mark.parametrize("host", ["clinic-a.example", "localhost", "192.0.2.7", "[2001:db8::1]", "[fe80::1%eth0]", "a",
                                  "peer_1.example", "0a"])
def test_names_and_addresses_of_both_kinds_can_be_dialled(host: str) -> None:
    assert dialled_host(host) == host


@pytest.mark.parametrize("host", ["*", "0.0.0.0", "[::]", "[0:0:0:0:0:0:0:0]"])
def test_what_stands_for_all_interfaces_can_be_listened_on_and_not_dialled(host: str) -> None:
    assert checked_host(host) == host
    with pytest.raises(ValueError, match="no other machine can dial it"):
        dialled_host(host)


@pytest.mark.parametrize(("host", "words"), [
    ("fd00::1", r"write an IPv6 address in brackets: \[fd00::1\]"), ("[fd00::g]", "it is not an IPv6 address"),
    ("[192.0.2.1]", "it is not an IPv6 address"), ("fd00::1]", "it is not an IPv6 address"),
    ("300.1.1.1", "it is not an IPv4 address"), ("1.2.3", "it is not an IPv4 address"),
    ("a:b", "it is not an IPv6 address"), ("", "it is not a host name"),
    ("a b", "it is not a host name"), ("user@a", "it is not a host name"), ("clinic$a", "letters a to z"),
    ("klinik-münchen.example", "letters a to z"), ("-a.example", "letters a to z"), ("a,b", "letters a to z")])
def test_what_is_no_host_is_refused_with_what_to_write(host: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        checked_host(host)


def test_the_host_of_an_endpoint() -> None:
    assert host_of("tcp://[2001:db8::1]:5700") == "[2001:db8::1]"
    assert host_of("tcp://a.example:5700") == "a.example"


@pytest.mark.parametrize(("families", "only"), [
    ((socket.AF_INET6, socket.AF_INET6), True), ((socket.AF_INET6, socket.AF_INET), False), ((socket.AF_INET,), False)])
def test_a_name_that_has_only_ipv6_addresses_is_dialled_by_ipv6(
        monkeypatch: pytest.MonkeyPatch, families: tuple[int, ...], only: bool) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(family, 0, 0, "", ()) for family in families])
    assert only_ipv6("clinic-a.example") is only


def test_addresses_and_unknown_names_need_no_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: Any) -> None:
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    assert only_ipv6("[::1]")
    assert not any(map(only_ipv6, ["192.0.2.7", "localhost", "clinic-a.example"]))
