"""The energy of a run: measured by the machine's counters, estimated from a stated power, or unknown."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from p2pser.base.wording import counted

POWERCAP = Path("/sys/class/powercap")
"""Folder of the processors' energy counters (RAPL) on Linux."""


@dataclass(frozen=True)
class Energy:
    """The energy that a process has used.

    processor_s : processor time of the process, and of its child processes that have ended [s].
    joules : the energy; None: unknown. method : a description of the measurement.
    """

    processor_s: float
    joules: float | None
    method: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


class Meter:
    """Measures from its creation on.

    watts : the power of a busy core, with its share of the machine, as stated by the owner [W]; None: unknown.
    counters : the folder of energy counters, which include other programs. They are used if they can be read.
    """

    def __init__(self, watts: float | None = None, counters: Path = POWERCAP) -> None:
        self._watts = watts
        self._began = _processor_s()
        self._packages = {path: value for path in sorted(counters.glob("intel-rapl:*"))
                          if re.fullmatch(r"intel-rapl:\d+", path.name) and (value := _package(path)) is not None}
        self._microjoules = 0

    def look(self) -> None:
        """Read the counters. They overflow after some minutes of full load, so call it at least that often."""
        for path, before in self._packages.items():
            now, most = _number(path / "energy_uj"), _number(path / "max_energy_range_uj")
            if now is None or (now < before and most is None):
                self._packages = {}  # the missing energy cannot be recovered
                return
            self._microjoules += now - before if now >= before else now - before + (most or 0)
            self._packages[path] = now

    def read(self) -> Energy:
        """Return the energy used since the meter was made."""
        self.look()
        seconds = _processor_s() - self._began
        if self._packages:
            return Energy(seconds, self._microjoules / 1e6,
                          f"measured by RAPL: {counted(len(self._packages), 'processor package')}, other programs of "
                          "the machine included")
        if self._watts is not None:
            return Energy(seconds, seconds * self._watts, "estimated: processor seconds times "
                          f"{self._watts:g} W, which the owner states (peer.watts)")
        return Energy(seconds, None, "not measured: no counter can be read, and peer.watts is not set")


def in_words(energy: Mapping[str, Any]) -> str:
    """Return ``Energy.to_dict`` as a sentence."""
    joules = "" if energy["joules"] is None else f", {energy['joules']:.0f} J"
    return f"{energy['processor_s']:.1f} processor seconds{joules} ({energy['method']})"


def is_energy(document: Any) -> bool:
    """Whether a value has the form of ``Energy.to_dict``."""
    if not isinstance(document, Mapping) or set(document) != {"processor_s", "joules", "method"}:
        return False
    numbers = [document["processor_s"], 0.0 if document["joules"] is None else document["joules"]]
    return isinstance(document["method"], str) and all(
        isinstance(value, (int, float)) and 0 <= value < math.inf for value in numbers)


def _processor_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _package(path: Path) -> int | None:
    """Return the counter of a processor package; None if it cannot be read, or is not of a whole package."""
    try:
        if not (path / "name").read_text().startswith("package"):
            return None
    except OSError:
        return None
    return _number(path / "energy_uj")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
