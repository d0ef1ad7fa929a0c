"""The form of a topology file: its keys and what each may hold, with one sentence for what is wrong."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Annotated, Any

import yaml
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
from p2pser.topology.kinds import MAX_PEERS
from p2pser.topology.mixing import RULES

Z85 = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#")


def _endpoint(text: str) -> str:
    host, _, port = text.removeprefix("tcp://").rpartition(":")
    if not text.startswith("tcp://") or not host or any(c.isspace() or c == "/" for c in host):
        raise ValueError("write it as tcp://HOST:PORT")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError("its port must be a number from 1 to 65535")
    return text


def _z85(text: str) -> str:
    if len(text) != 40 or not set(text) <= Z85:
        raise ValueError("a public key is 40 Z85 characters, as 'p2pser keys' prints it (quote it in YAML)")
    return text


NOWHERE = "none"
"""The address of a peer that cannot be dialled: it dials its neighbours, and listens nowhere."""


def _address(text: str) -> str:
    return text if text == NOWHERE else _endpoint(text)


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EntryForm(_Form):
    """What a file says of one peer."""

    address: Annotated[str, AfterValidator(_address)] | None = None
    listen: Annotated[str, AfterValidator(_endpoint)] | None = None
    key: Annotated[str, AfterValidator(_z85)] | None = None


HandWeights = tuple[tuple[int, int, float], ...]
"""Weights by hand: (i, j, w), peer j gives the message of peer i the weight w."""


def _weights(value: Any) -> str | HandWeights | None:
    if value is None or (isinstance(value, str) and value in RULES):
        return value
    if isinstance(value, Mapping) and set(value) == {"edges"} and isinstance(value["edges"], list) and value["edges"]:
        for one in value["edges"]:
            if not (isinstance(one, list) and len(one) == 3 and all(_number(part) for part in one)
                    and all(isinstance(end, int) for end in one[:2]) and math.isfinite(one[2]) and one[2] != 0):
                raise ValueError(f"edges holds {one!r}, but each must be [i, j, w], two ids and a weight that is not 0")
        return tuple((i, j, float(w)) for i, j, w in value["edges"])
    rules = ", ".join(repr(rule) for rule in RULES)
    raise ValueError(f"give one of {rules}, or {{edges: [[i, j, w], …]}}")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class GraphForm(BaseModel):
    """Which graph: one of kind, edges and graphml; the parameters of a kind are extra keys."""

    model_config = ConfigDict(extra="allow", frozen=True)  # the kind says which parameters it has

    kind: str | None = None
    peers: StrictInt | None = Field(None, ge=1, le=MAX_PEERS)
    edges: list[tuple[StrictInt, StrictInt]] | None = None
    directed: StrictBool | None = None
    graphml: str | None = None


class FileForm(_Form):
    """The whole file."""

    name: str | None = Field(None, min_length=1, max_length=64)
    graph: GraphForm
    weights: Annotated[str | HandWeights | None, BeforeValidator(_weights)] = None
    hub: StrictInt | None = Field(None, ge=0)
    peers: dict[StrictInt, EntryForm] = {}


def explain(error: ValidationError, where: str) -> TopologyError:
    """Return the first of pydantic's complaints as one sentence."""
    first = error.errors()[0]
    *section, last = first["loc"] or ("",)
    place = ".".join(str(part) for part in first["loc"]) or "the document"
    if first["type"] == "extra_forbidden":
        model = EntryForm if section[:1] == ["peers"] else FileForm
        inside = f" in {'.'.join(map(str, section))}" if section else ""
        hint = nearest(str(last), model.model_fields)
        return TopologyError(f"{where}: there is no key {str(last)!r}{inside}{hint}")
    if first["type"] == "missing":
        return TopologyError(f"{where}: the key {place!r} is missing; add for example "
                             "'graph: {kind: ring, peers: 8}'")
    message = first["msg"].removeprefix("Value error, ")
    given = f" = {first['input']!r}" if isinstance(first["input"], (str, int, float)) else ""
    return TopologyError(f"{where}: {place}{given}: {message}")


class Loader(yaml.SafeLoader):
    """YAML's safe loader, refusing a key given twice: a peer's second entry would replace its first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice",
                                                            key_node.start_mark)
                seen.add(key)
        return super().construct_mapping(node, deep)
