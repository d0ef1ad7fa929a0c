"""Facts about a model in its card: its test, an audit of its run, and the energy of the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from p2pser.base.energy import in_words, is_energy

NONE = {"tested": "not tested", "audit": "not audited", "energy": "not measured"}
"""The entry of a card in place of each fact that is not known."""


@dataclass(frozen=True)
class Facts:
    """Facts about a model, plain data; None: not known.

    Attributes
    ----------
    tested : by group of speakers (``evaluation.tested``).
    audit : what ``p2pser audit`` found with the settings of the run (``privacy.report.for_card``).
    energy : of the process that wrote the model (``base.energy.Energy``), since it was started last.
    """

    tested: Mapping[str, Any] | None = None
    audit: Mapping[str, Any] | None = None
    energy: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the entries of a card: each fact, or its entry in ``NONE``."""
        return {name: none if (fact := getattr(self, name)) is None else dict(fact) for name, none in NONE.items()}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Facts:
        """Return the facts of a card; a card of an earlier version has none.

        Raises ValueError where a fact has another form.
        """
        facts = {name: None if isinstance(value := document.get(name), str) else value for name in NONE}
        if wrong := [name for name, fact in facts.items() if fact is not None and not isinstance(fact, Mapping)]:
            raise ValueError(f"its entry {wrong[0]!r} is not a mapping")
        lines = (facts["tested"] or {}).get("in_words", [])
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise ValueError("its entry 'tested' has no sentences")
        if facts["energy"] is not None and not is_energy(facts["energy"]):
            raise ValueError("its energy is not that of a process")
        return cls(**facts)

    def lines(self) -> Iterator[str]:
        """Yield the facts in words."""
        if self.tested is None:
            yield NONE["tested"]
        else:
            yield from self.tested.get("in_words", ())
        yield NONE["audit"] if self.audit is None else str(self.audit.get("verdict", ""))
        yield "energy: " + (NONE["energy"] if self.energy is None else in_words(self.energy))
