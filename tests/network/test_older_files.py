"""A peer that is refused learns whether its neighbour may have an older topology file, between real sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from p2pser.network import events, keys

if TYPE_CHECKING:
    from network.conftest import Network

SECRET = b"s" * 32
"""Of the network's keys."""

OLDER = {"epoch": 1, "topology": "o" * 16}
NEWER = {"epoch": 2, "topology": "n" * 16}


@pytest.mark.parametrize(("theirs", "older"), [
    (OLDER, True), ({**NEWER, "settings": {"training.lr": 0.1}}, False), ({**OLDER, "run": "other"}, False),
    ({"epoch": 3, "topology": "p" * 16}, False)])
def test_a_hello_that_does_not_fit(network: Network, theirs: dict[str, Any], older: bool) -> None:
    here = network.peer(0, (1,), hello=NEWER)
    network.peer(1, (0,), hello=theirs)
    for by_us in (True, False):
        assert network.find(here, events.Refused, lambda event, by_us=by_us: event.by_us is by_us).older is older


@pytest.mark.parametrize(("theirs", "older"), [(OLDER, True), (NEWER, False)])
def test_a_key_that_is_not_admitted(network: Network, theirs: dict[str, Any], older: bool) -> None:
    here = network.peer(0, (1,), hello=NEWER, key=keys.derive(SECRET, "run", 7))
    network.peer(1, (0,), hello=theirs, dials=())
    refused = network.wait(here, events.Refused)
    assert (refused.by_us, refused.older) == (False, older)
    assert "does not admit the key of peer 0: " + (
        "give it epoch 2 of the topology file" if older else "compare the topology files") in refused.reason
