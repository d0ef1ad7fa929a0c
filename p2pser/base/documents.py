"""YAML, as run files, topology files and ``--set`` values hold it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

from p2pser.base.errors import P2PSERError


class _TwiceError(Exception):
    """A key is given twice."""


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key given twice: the second value would replace the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise _TwiceError(f"the key {key!r} is given twice, the second time in line "
                                      f"{key_node.start_mark.line + 1}; keep one")
                seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(text: str, where: str, error: type[P2PSERError]) -> Any:
    """Return the document of a YAML text.

    Raises ``error``, in a sentence that begins with ``where``, if the text is not YAML or gives a key twice.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except _TwiceError as reason:
        raise error(f"{where}: {reason}") from None
    except yaml.MarkedYAMLError as reason:
        mark = reason.problem_mark or reason.context_mark
        line = f": line {mark.line + 1}, column {mark.column + 1} cannot be read" if mark else ""
        raise error(f"{where} is not YAML{line}; check indentation, quotes and brackets") from None
    except yaml.reader.ReaderError as reason:
        raise error(f"{where} is not YAML: character {reason.position + 1} cannot be printed; save it as plain "
                    "text") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise error(f"{where} is not YAML; check indentation, quotes and brackets") from None
