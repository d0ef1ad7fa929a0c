"""HELLO, the first message between two neighbours, and the comparison of theirs with ours. Pure.

Where the two do not fit, a peer refuses with a sentence that names the difference and both values, and sends that
sentence to the other peer too.

Different types of machines and versions of libraries compute different last bits, which must not exclude a site. So
values computed in floating point are compared with a tolerance, and all others exactly.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgpack

from p2pser.base.errors import RemoteProtocolError, printable
from p2pser.wire.labels import read_labels
from p2pser.wire.messages import MAJOR, MINOR

ROLES = ("peer", "check")
"""peer: takes part in the run; check: only compares settings (``p2pser peer --check``)."""

MAX_PROCESS = 32
"""Longest name of a process [characters]."""

OUTLINE = 64
"""Largest number of values in an outline."""
ALIKE = 1e-3
"""Largest accepted difference of two values of an outline, relative to the larger one or to 1. Differences are about
1e-6 where only the last bits differ, and about 1 where the rows were drawn differently."""
SAME_WEIGHT = 1e-6
"""Largest accepted difference between the two ends' weights of an edge, where a solver computes them: in an exchange it
moves the mean of all rows by that share of the difference of the two rows."""

PLUGIN = "plugin."
"""Prefix of the settings ``plugin.KIND.NAME``, whose value is the package (with version) that provides NAME."""


@dataclass(frozen=True)
class Hello:
    """A peer's announcement of itself. The digests, ``topology`` and ``schema``, are hexadecimal."""

    run: str
    peer: int
    incarnation: int
    settings: Mapping[str, Any]
    topology: str
    schema: str
    initial: tuple[float, ...]
    """The outline of the initial parameters (``models.rows.outline``)."""
    labels: tuple[str, ...]
    """The emotions of the run, in the order of the model's outputs; empty until the peers have agreed on them. In such
    a run, ``schema`` and ``initial`` are those of a model of two emotions."""
    clips: int = 0
    """The number of its training clips, where W weighs by clips."""
    role: str = "peer"
    major: int = MAJOR
    minor: int = MINOR
    width: float = 1.0
    """The peer's share of the whole model's hidden units, which may differ between neighbours. ``schema`` and
    ``initial`` are those of the whole model."""
    epoch: int = 0
    """The epoch of the topology file."""
    process: str = ""
    """Random text that identifies the process: two processes may have the same key, id and incarnation."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """The weight of each neighbour's rows, by its id, where a solver computes the weights."""

    def body(self) -> dict[str, Any]:
        """Return the message's body, without fields at their defaults (``_DEFAULTS``)."""
        body = {**{name: getattr(self, name) for name in _TYPES}, "settings": dict(self.settings),
                "labels": list(self.labels), "initial": list(self.initial), "weights": dict(self.weights)}
        return {name: value for name, value in body.items() if _DEFAULTS.get(name) != value}


_TYPES: dict[str, type] = {
    "run": str, "peer": int, "incarnation": int, "settings": dict, "topology": str, "schema": str,
    "initial": list, "labels": list, "clips": int, "role": str, "major": int, "minor": int, "width": float,
    "epoch": int, "process": str, "weights": dict,
}


_DEFAULTS: dict[str, Any] = {"clips": 0, "width": 1.0, "epoch": 0, "process": "", "weights": {}}
"""Default values, at which a body leaves a field out."""

START = "model to start from"
"""The setting under which peers and folders compare the digest of the model from which a run starts. It is compared
first, since others follow from it (``features.normalise=auto``)."""
_SAME = "; install the same version at all sites"
_REMEDIES = {
    "draws": ", since their versions of numpy draw other random numbers" + _SAME,
    "features.version": "; install the same versions at all sites, and give them the same encoder's files",
    "features.statistics": _SAME,
    "corpus.labels": "; start all peers with the same --set corpus.labels=EMOTION,EMOTION, or all without it; "
                     "--set corpus.map=WORD=EMOTION translates a site's own words into these",
    "features.normalise": "; start all peers with the same --set features.normalise=HOW, or all without it",
    START: "; give all sites a copy of one model directory (--from), or none",
    "training.rounds": "; give all peers the same number (--rounds), to end the run or to go on with it"}
"""Remedies where peers differ in a setting."""


def parse(body: Mapping[str, Any], sender: int) -> Hello:
    """Return the HELLO in a body that neighbour ``sender`` sent.

    Raises RemoteProtocolError where a field is missing, unknown or of the wrong type.
    """
    body = {**_DEFAULTS, **body}
    if set(body) != set(_TYPES):
        names = printable(", ".join(sorted(set(body) ^ set(_TYPES))), 300)
        raise RemoteProtocolError(f"the HELLO of peer {sender} differs from protocol {MAJOR}.{MINOR} in the fields "
                                  f"{names}", sender)
    for name, kind in _TYPES.items():
        if type(body[name]) is not kind:
            raise RemoteProtocolError(f"the HELLO of peer {sender} has {name} of type {type(body[name]).__name__}",
                                      sender)
    try:
        labels = read_labels(body["labels"])
    except ValueError as error:
        raise RemoteProtocolError(f"the HELLO of peer {sender} has {error}", sender) from None
    if body["peer"] != sender:
        raise RemoteProtocolError(f"the HELLO of peer {sender} names peer {body['peer']} as its sender", sender)
    if body["role"] not in ROLES or min(body["clips"], body["incarnation"], body["epoch"]) < 0 \
            or not 0 < body["width"] <= 1 or len(body["process"]) > MAX_PROCESS:
        raise RemoteProtocolError(f"the HELLO of peer {sender} has values out of range", sender)
    if not _numbers(body["initial"], OUTLINE) or not _numbers([*body["weights"].values()], len(body["weights"])):
        raise RemoteProtocolError(f"the HELLO of peer {sender} has numbers that are not finite, or too many", sender)
    return Hello(**{**body, "labels": labels, "initial": tuple(body["initial"])})


def _numbers(values: list[Any], most: int) -> bool:
    return len(values) <= most and all(type(value) is float and math.isfinite(value) for value in values)


def difference(ours: Hello, theirs: Hello) -> str | None:
    """Return a sentence on why two peers do not fit together, or None where they do.

    Only the first difference is named, the most basic first.
    """
    def differ(what: str, here: Any, there: Any) -> str:
        # The other peer's text goes to this peer's terminal and logs.
        here, there = printable(str(here), 300), printable(str(there), 300)
        return f"{printable(what, 100)} differ: {here} at peer {ours.peer}, {there} at peer {theirs.peer}"

    if ours.major != theirs.major:
        return differ("protocol versions", f"{ours.major}.{ours.minor}", f"{theirs.major}.{theirs.minor}") \
            + "; install the same version of p2pser at both"
    if ours.run != theirs.run:
        return differ("run names", repr(ours.run), repr(theirs.run))
    if ours.epoch != theirs.epoch:
        older, newer = sorted((ours, theirs), key=lambda hello: hello.epoch)
        return (f"peer {older.peer} has epoch {older.epoch} of the topology file, peer {newer.peer} epoch "
                f"{newer.epoch}: give peer {older.peer} the newer file, and send it SIGHUP or start it again")
    if ours.topology != theirs.topology:
        return differ(f"topology files of epoch {ours.epoch} (digests of edges and weights)", ours.topology[:12],
                      theirs.topology[:12]) + "; give both the same file, and the same version of networkx where it " \
                                              "names a kind of graph"
    for setting in sorted(set(ours.settings) | set(theirs.settings), key=lambda name: (name != START, name)):
        here, there = ours.settings.get(setting), theirs.settings.get(setting)
        if here != there and setting.startswith(PLUGIN):
            what, _, name = setting.removeprefix(PLUGIN).partition(".")
            return differ(f"packages of the {what} {name}", here or "built in", there or "built in") + _SAME
        if here != there:
            return differ(f"settings {setting}", _short(here), _short(there)) + _REMEDIES.get(setting, "")
    if ours.labels and theirs.labels and ours.labels != theirs.labels:
        return differ("label lists", ", ".join(ours.labels), ", ".join(theirs.labels))
    if ours.schema != theirs.schema:
        return differ("model schemas (digests)", ours.schema[:12], theirs.schema[:12])
    apart = next(((here, there) for here, there in zip(ours.initial, theirs.initial)
                  if abs(here - there) > ALIKE * max(1.0, abs(here), abs(there))), None)
    if apart is not None or len(ours.initial) != len(theirs.initial):
        here, there = apart or (f"{len(ours.initial)} numbers", f"{len(theirs.initial)} numbers")
        return differ("initial parameters (their outlines)", here, there) \
            + "; install the same versions of p2pser, and of the package of the model, at both"
    here, there = ours.weights.get(str(theirs.peer), 0.0), theirs.weights.get(str(ours.peer), 0.0)
    if abs(here - there) > SAME_WEIGHT:
        return differ(f"computed weights of the edge {ours.peer}-{theirs.peer}", here, there) \
            + "; install the same version of cvxpy at both, or give the weights by hand in the topology file"
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}… (digest {hashlib.sha256(text.encode()).hexdigest()[:12]})"


def run_id(name: str) -> bytes:
    """Return the 8 bytes that identify a run in headers."""
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def normalised_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as a receiver unpacks them (tuples as lists), so that equal ones compare equal."""
    plain: dict[str, Any] = msgpack.unpackb(msgpack.packb(dict(settings)))
    return plain
