"""Text files, and the YAML of run files, topology files and ``--set`` values."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from p2pser.base.errors import P2PSERError

OUTSIDE_BYTES = 256 * 1024
"""Size of the largest document from another site [B]: the topology file of 100 sites has about 40 kB."""
LARGEST = 32 << 20
"""Size of the largest text file that is read [B]."""
LARGEST_YAML = 1 << 20
"""Size of the largest YAML file [B]: a topology of 10,000 peers. Reading it takes some seconds."""
MOST = 2_000_000
"""Values in the largest document, each counted as often as aliases repeat it."""


class _RefusedError(Exception):
    """A document is YAML, and is not taken: it gives a key twice, merges mappings, or repeats values."""


class _TooLargeError(Exception):
    """A document has more than ``MOST`` values."""


_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*)?\.[0-9_]+(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*\.(?:[eE][-+][0-9]+)?|"
                    r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_TRUTH = re.compile("true|True|TRUE|false|False|FALSE")
_OF_YAML_1_1 = {f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "timestamp")}


class _Loader(yaml.SafeLoader):
    """YAML's safe loader that refuses a key given twice, whose second value would replace the first.

    As in YAML 1.2, `010` (octal in YAML 1.1), `1:30` (base 60), `no` and a date are text.
    """

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _values(node, {}) > MOST:
            raise _TooLargeError
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise _RefusedError(f"line {key_node.start_mark.line + 1} merges a mapping (<<), which is no YAML 1.2; "
                                    "write its keys out")
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise _RefusedError(f"the key {key!r} is given twice, the second time in line "
                                        f"{key_node.start_mark.line + 1}; keep one")
                seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OF_YAML_1_1]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()}
for _name, _pattern, _first in (("bool", _TRUTH, "tTfF"), ("int", _DECIMAL, "-+0123456789"),
                                ("float", _FLOAT, "-+.0123456789")):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern.pattern})\Z"), list(_first))


class _PlainLoader(_Loader):
    """The loader of documents from other sites: it refuses aliases, with which a few lines can expand to gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            alias = self.get_event()  # type: ignore[no-untyped-call]
            raise _RefusedError(f"line {alias.start_mark.line + 1} repeats a value by its name (*{alias.anchor}), "
                                "which a file from another site must not; write it out")
        return super().compose_node(parent, index)


def read_text(path: Path, what: str, error: type[P2PSERError], largest: int = LARGEST) -> str:
    """Return the text of a file (UTF-8, with or without a byte-order mark).

    what : names the file in errors ("the run file"). largest : the largest size [B].

    Raises ``error`` where the file cannot be read, is too large or is not text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
        if len(content) > largest:
            raise error(f"{what} {path} is larger than {largest >> 10} KiB: it is another file")
        return content.decode("utf-8-sig")
    except OSError as reason:
        raise error(f"cannot read {what} {path}: {reason.strerror}") from None
    except UnicodeDecodeError:
        raise error(f"{what} {path} is not UTF-8 text: save it as UTF-8") from None


def _values(node: yaml.Node, known: dict[int, float]) -> float:
    """Return the number of values of a node, infinite where the node contains itself. ``known``: by the node's id."""
    if id(node) not in known:
        known[id(node)] = math.inf  # until it is counted: a node that contains itself has no end
        inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else \
            node.value if isinstance(node, yaml.SequenceNode) else ()
        known[id(node)] = 1 + sum(_values(part, known) for part in inner)
    return known[id(node)]


def as_yaml(value: Any) -> str:
    """Return a value (a number, text, a path, or a list or mapping of them) as one line of YAML.

    ``read_yaml`` reads it back as it is: a path may hold what YAML takes for syntax, and JSON's escapes, as YAML reads
    them, would cut characters beyond 16 bits in two.
    """
    plain = json.loads(json.dumps(value, default=str))
    return yaml.safe_dump(plain, default_flow_style=True, width=math.inf).removesuffix("...\n").strip()


def read_yaml(text: str, where: str, error: type[P2PSERError], *, plain: bool = False) -> Any:
    """Return the document of a YAML text. plain : refuse aliases.

    Raises ``error``, in a sentence that begins with ``where``, if the text is not YAML or gives a key twice.
    """
    try:
        return yaml.load(text, Loader=_PlainLoader if plain else _Loader)  # noqa: S506 (SafeLoaders)
    except _RefusedError as reason:
        raise error(f"{where}: {reason}") from None
    except _TooLargeError:
        raise error(f"{where} stands for more than {MOST:,} values, or for infinitely many: write out its aliases "
                    "(*name)") from None
    except yaml.MarkedYAMLError as reason:
        mark = reason.problem_mark or reason.context_mark
        line = f": line {mark.line + 1}, column {mark.column + 1} cannot be read" if mark else ""
        raise error(f"{where} is not YAML{line}; check indentation, quotes and brackets") from None
    except yaml.reader.ReaderError as reason:
        raise error(f"{where} is not YAML: character {reason.position + 1} cannot be printed; save it as plain "
                    "text") from None
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError, TypeError):  # of values with a tag
        raise error(f"{where} is not YAML; check indentation, quotes and brackets") from None


def kind_of_file(document: Any) -> str:
    """Return which file of p2pser a document is (``"an invitation (for p2pser accept)"``); ``""`` where unknown."""
    if not isinstance(document, Mapping):
        return ""
    known = (("an invitation (for p2pser accept)", document.get("p2pser") == "invitation"),
             ("a reply (for p2pser topology assemble)", document.get("p2pser") == "reply"),
             ("a topology file (--topology)", "graph" in document),
             ("a key file, which stays at its site", {"public", "secret"} <= document.keys()),
             ("a run file (--run)", any(isinstance(document.get(name), Mapping) for name in _SECTIONS)))
    return next((kind for kind, fits in known if fits), "")


_SECTIONS = ("corpus", "features", "gossip", "model", "network", "peer", "privacy", "training")
"""Sections of a run file."""


def read_outside(path: Path, what: str, error: type[P2PSERError]) -> Any:
    """Return the document of a YAML file from another site, of OUTSIDE_BYTES at most and without aliases.

    what : names the file in errors ("the invitation"). Raises ``error`` where it cannot be read or is no such file.
    """
    if not os.path.isfile(path):
        raise error(f"{what} {path} is no file; give the file as it was sent")
    return read_yaml(read_text(path, what, error, OUTSIDE_BYTES), f"{what} {path}", error, plain=True)
