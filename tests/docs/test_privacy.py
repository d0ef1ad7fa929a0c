"""docs/privacy.md lists every field of every message, and none that there is not."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack
import pytest
import torch

from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.gossip.agreement import secure_sum
from p2pser.gossip.agreement.consensus import Consensus
from p2pser.gossip.agreement.flood import FloodMessage
from p2pser.gossip.agreement.stopping import Trailer
from p2pser.gossip.mixer import Mixer
from p2pser.graph.spec import load
from p2pser.network.epochs import Notice
from p2pser.peer import parcels
from p2pser.peer.join_state import call_fields
from p2pser.peer.outcome import Outcome
from p2pser.run import setup
from p2pser.run.calibration import SUMS
from p2pser.run.setup import RollCall
from p2pser.simulation.mixer import SimulatedMixer
from p2pser.training.target_statistics import Asked
from p2pser.wire import messages
from p2pser.wire.hello import Hello

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
CALL = RollCall(0, {}, frozenset(), normalise="global")
PACKING = {
    "gossip/agreement/flood.py", "gossip/agreement/stopping.py", "network/epochs.py", "peer/parcels.py", "run/setup.py",
    "wire/assembly.py", "wire/hello.py", "wire/messages.py",
}
"""The files that pack fields for the wire: the tests below read the fields of each."""


def listed(heading: str) -> set[str]:
    """The names in the first column of the table under a heading."""
    section = re.split(r"^#+ ", PAGE.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return {name for line in section.splitlines() if line.startswith("| `")
            for name in re.findall(r"`([^`]+)`", line.split("|")[1])}


def fields(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def answer(monkeypatch: pytest.MonkeyPatch, clips: int | None, width: float,
           scales: setup.Scales | None = None) -> set[str]:
    """The fields of a peer's answer to the roll call."""
    said: dict[int, bytes] = {}

    def flood(mixer: Mixer, round: int, values: Mapping[int, bytes], *_: Any, **__: Any) -> None:
        said.update(values)
        raise StopIteration

    monkeypatch.setattr(setup, "flood_knowledge", flood)
    pair = load("chain", peers=2)
    with pytest.raises(StopIteration):
        setup.roll_call(SimulatedMixer(pair), pair, 0, [5], clips, width, rounds=9, scales=scales)
    return set(msgpack.unpackb(said[0]))


def test_header() -> None:
    wire = {name for name, *_ in messages._FIELDS}
    assert listed("The header of each message") == wire | {"major", "minor"}
    assert {name.partition(".")[0] for name in wire} == {*messages.Header._fields}


def test_hello_and_the_other_bodies() -> None:
    assert listed("HELLO and WELCOME") == fields(Hello)
    assert listed("REFUSED and BYE") == set(messages.decode_body(messages.encode_reason("left")))
    assert {*messages.Kind.__members__} == {"HELLO", "WELCOME", "REFUSED", "ROW", "CREDIT", "PING", "PONG", "BYE"}


def test_no_path_or_limit_of_a_peer_is_in_hello() -> None:
    assert not {"peer", "network"} & {name.partition(".")[0] for name in Config().shared()}
    assert "privacy.draws" not in Config().shared()
    assert not any(isinstance(value, Path) for value in Config().shared().values())


def test_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    below = {name for name, value in vars(setup).items() if type(value) is int and value < 0}
    assert listed("Rounds of the set-up and beside training") == below
    assert listed("Roll call") == answer(monkeypatch, 7, 0.5, setup.Scales(4))
    assert answer(monkeypatch, None, 1.0, setup.Scales(None)) == {"rounds"}
    assert answer(monkeypatch, None, 1.0) == {"rounds"}
    assert listed("Statistics") == fields(Asked)


def test_notices_of_topology_files() -> None:
    assert listed("Notices of topology files") == fields(Notice)


def test_agreement() -> None:
    assert listed("Floods") == {*FloodMessage._fields}
    assert listed("Final consensus") == fields(Trailer)


def test_every_algorithm_says_what_it_sends() -> None:
    assert listed("Rows in training") == {name for name in ALGORITHMS if ALGORITHMS.origin(name).builtin}


def test_secure_sums() -> None:
    kinds = {name for name, value in vars(secure_sum).items() if type(value) is bytes}
    assert listed("Secure sums") == kinds | {"NONCE", "partial sums", "total", "Age"}
    agreeing = {path.name for path in (ROOT / "p2pser" / "gossip" / "agreement").glob("*.py")
                if "Outbox(" in path.read_text(encoding="utf-8")}
    assert agreeing == {"flood.py", "consensus.py", "secure_sum.py"}


def test_calibration() -> None:
    assert listed("Calibration") == {*SUMS}


def test_join_state_and_model() -> None:
    end = Outcome(Consensus(torch.zeros(1, 2), 0.0, 0, (), True), CALL, torch.zeros(0))
    slots = {name for name, value in vars(parcels).items() if name.isupper() and type(value) is int} - {"KINDS"}
    assert listed("Join state and model") == slots | {"round", *call_fields(CALL), *end.fields()}


def test_fields_are_packed_for_the_wire_nowhere_else() -> None:
    rooms = ("gossip", "network", "peer", "run", "wire")
    found = {str(path.relative_to(ROOT / "p2pser")) for room in rooms for path in (ROOT / "p2pser" / room).rglob("*.py")
             if re.search(r"\bpackb\(", path.read_text(encoding="utf-8"))}
    assert found == PACKING
