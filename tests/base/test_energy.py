"""The energy of a process: from counters that begin anew, from a stated power, or not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pser.base.energy import Meter, in_words, is_energy


def package(folder: Path, name: str, joules: float, *, most: float = 100.0, called: str = "package-0") -> Path:
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "name").write_text(called + "\n")
    (place / "max_energy_range_uj").write_text(f"{most * 1e6:.0f}\n")
    (place / "energy_uj").write_text(f"{joules * 1e6:.0f}\n")
    return place / "energy_uj"


def test_counters_of_packages_are_added_also_where_they_begin_anew(tmp_path: Path) -> None:
    one = package(tmp_path, "intel-rapl:0", 90.0)
    two = package(tmp_path, "intel-rapl:1", 5.0)
    part = package(tmp_path, "intel-rapl:0:0", 1.0, called="core")
    whole = package(tmp_path, "intel-rapl:2", 1.0, called="psys")
    meter = Meter(counters=tmp_path, watts=7)
    one.write_text("98000000")
    meter.look()
    one.write_text("3000000")  # 100 J further it began anew
    two.write_text("6500000")
    part.write_text("90000000")
    whole.write_text("90000000")
    found = meter.read()
    assert found.joules == pytest.approx(8 + 5 + 1.5)
    assert found.method == "measured by RAPL: 2 processor packages, other programs of the machine included"


def test_a_counter_that_is_lost_is_not_guessed(tmp_path: Path) -> None:
    counter = package(tmp_path, "intel-rapl:0", 90.0)
    meter = Meter(counters=tmp_path)
    counter.unlink()
    assert meter.read().joules is None


def test_a_stated_power_or_none(tmp_path: Path) -> None:
    meter, plain = Meter(15.0, tmp_path), Meter(None, tmp_path)
    sum(k * k for k in range(400_000))
    found, unknown = meter.read(), plain.read()
    assert found.joules == pytest.approx(15 * found.processor_s)
    assert found.method == "estimated: processor seconds times 15 W, which the owner states (peer.watts)"
    assert unknown.joules is None
    assert unknown.processor_s >= found.processor_s > 0
    assert in_words({"processor_s": 2.0, "joules": 30.0, "method": "x"}) == "2.0 processor seconds, 30 J (x)"
    assert in_words(unknown.to_dict()).endswith(
        "processor seconds (not measured: no counter can be read, and peer.watts is not set)")


def test_other_documents_are_no_energy() -> None:
    good = {"processor_s": 2.0, "joules": None, "method": "x"}
    assert is_energy(good)
    for bad in (None, {}, {**good, "processor_s": -1}, {**good, "joules": "many"}, {**good, "method": 3},
                {**good, "processor_s": float("nan")}, {**good, "more": 1}):
        assert not is_energy(bad)
