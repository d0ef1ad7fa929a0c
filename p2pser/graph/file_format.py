"""The format of a topology file: its keys, their values, and the messages of errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
)

from p2pser.base.errors import TopologyError, nearest
from p2pser.base.hosts import checked_host, dialled_host, host_of
from p2pser.graph.kind import MAX_PEERS
from p2pser.graph.mixing import RULES

Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
"""The digits of a key, each five of which are a number of 32 bits."""

NOWHERE = "none"
"""The address of a peer that cannot be dialled: it only dials its neighbours."""

HandWeights = tuple[tuple[int, int, float], ...]
"""Weights by hand: (i, j, w), where w is the weight of peer i's message at peer j."""


def _endpoint(text: str) -> str:
    host, _, port = text.removeprefix("tcp://").rpartition(":")
    if not text.startswith("tcp://") or not host or any(c.isspace() or c == "/" for c in host):
        raise ValueError("write it as tcp://HOST:PORT")
    checked_host(host)
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError("its port must be a number from 1 to 65535")
    return text


def _address(text: str) -> str:
    if text != NOWHERE:
        dialled_host(host_of(_endpoint(text)))
    return text


def _z85(text: str) -> str:
    fives = [text[at : at + 5] for at in range(0, len(text), 5)]
    if len(text) != 40 or not set(text) <= set(Z85) or any(_number(five) >= 2**32 for five in fives):
        raise ValueError("a public key is 40 Z85 characters, as 'p2pser keys' prints it (quote it in YAML)")
    return text


def _number(digits: str) -> int:
    number = 0
    for digit in digits:
        number = 85 * number + Z85.index(digit)
    return number


def _weights(value: Any) -> str | HandWeights | None:
    if value is None or (isinstance(value, str) and value in RULES):
        return value
    if isinstance(value, Mapping) and set(value) == {"edges"} and isinstance(value["edges"], list) and value["edges"]:
        for edge in value["edges"]:
            if not _is_weighted_edge(edge):
                raise ValueError(f"edges holds {edge!r}, but each must be [i, j, w], two ids and a weight that is "
                                 "not 0")
        return tuple((i, j, float(w)) for i, j, w in value["edges"])
    rules = ", ".join(repr(rule) for rule in RULES)
    raise ValueError(f"give one of {rules}, or {{edges: [[i, j, w], …]}}")


def _is_weighted_edge(edge: object) -> bool:
    if not isinstance(edge, list) or len(edge) != 3 or any(isinstance(part, bool) for part in edge):
        return False
    i, j, weight = edge
    return (isinstance(i, int) and isinstance(j, int) and isinstance(weight, (int, float))
            and math.isfinite(weight) and weight != 0)


# A message of an error names the field, and its description is the requirement.

class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EntryForm(_Form):
    """The entry of one peer."""

    address: Annotated[str, AfterValidator(_address)] | None = Field(
        None, description=f"an address, tcp://HOST:PORT or {NOWHERE}")
    listen: Annotated[str, AfterValidator(_endpoint)] | None = Field(None, description="an address, tcp://HOST:PORT")
    key: Annotated[str, AfterValidator(_z85)] | None = Field(
        None, description="a public key as 'p2pser keys' prints it (quote it in YAML)")


class GraphForm(BaseModel):
    """The graph: one of kind, edges and graphml; the parameters of a kind are extra keys."""

    model_config = ConfigDict(extra="allow", frozen=True)  # the parameters depend on the kind

    kind: str | None = Field(None, description="the name of a graph kind, such as ring")
    peers: StrictInt | None = Field(None, ge=1, le=MAX_PEERS, description=f"a whole number from 1 to {MAX_PEERS}")
    edges: list[tuple[StrictInt, StrictInt]] | None = Field(
        None, description="a list of pairs of ids, such as [[0, 1], [1, 2]]")
    directed: StrictBool | None = Field(None, description="true or false")
    graphml: str | None = Field(None, description="the name of a GraphML file")


class FileForm(_Form):
    """The whole file."""

    name: str | None = Field(None, min_length=1, max_length=64, description="text of 1 to 64 characters")
    graph: GraphForm = Field(description="a mapping, for example {kind: ring, peers: 8}")
    weights: Annotated[str | HandWeights | None, BeforeValidator(_weights)] = None
    hub: StrictInt | None = Field(None, ge=0, description="the id of a peer, a whole number from 0")
    retired: list[StrictInt] = Field([], description="a list of ids, such as [2]")
    epoch: StrictInt = Field(0, ge=0, lt=2**31, description="a whole number from 0")
    peers: dict[StrictInt, EntryForm] = Field(
        {}, description="a mapping from ids to entries, for example 0: {address: \"tcp://192.0.2.10:5700\"}")


def explain(error: ValidationError, where: str) -> TopologyError:
    """Return the first of pydantic's errors as a TopologyError in p2pser's words."""
    first = error.errors()[0]
    *section, last = first["loc"] or ("",)
    place = ".".join(str(part) for part in first["loc"] if part != "[key]") or "the document"
    if first["type"] == "extra_forbidden":
        model = EntryForm if section[:1] == ["peers"] else FileForm
        inside = f" in {'.'.join(map(str, section))}" if section else ""
        hint = nearest(str(last), model.model_fields)
        return TopologyError(f"{where}: there is no key {str(last)!r}{inside}{hint}")
    if last == "[key]":
        return TopologyError(f"{where}: {place} is the text {first['input']!r}, and ids are whole numbers: write them "
                             "without quotes")
    if first["type"] == "missing":
        return TopologyError(f"{where}: the key {place!r} is missing; add for example "
                             "'graph: {kind: ring, peers: 8}'")
    given = f" = {first['input']!r}" if isinstance(first["input"], (str, int, float)) else ""
    if first["type"] == "value_error":
        return TopologyError(f"{where}: {place}{given}: {first['ctx']['error']}")
    return TopologyError(f"{where}: {place}{given} must be {_requirement(first['loc'])}")


def _requirement(loc: tuple[int | str, ...]) -> str:
    """Return the description of the innermost named field of a location."""
    form: type[BaseModel] = FileForm
    requirement = ""
    for part in loc:
        if isinstance(part, str) and part in form.model_fields:
            requirement = form.model_fields[part].description or requirement
            form = GraphForm if part == "graph" else EntryForm
    return requirement
