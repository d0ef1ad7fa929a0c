"""A progress bar on standard error."""

from __future__ import annotations

import re

import pytest

from p2pser.base.progress import progress


def drawn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], unit: str = "",
          wanted: bool = True, terminal: bool = True) -> str:
    """What standard error holds after three steps of ten."""
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    with progress("jobs", 10, wanted=wanted, unit=unit) as bar:  # type: ignore[arg-type]
        bar(2, "the second")
        bar.advance(text="the third")
    output = capsys.readouterr()
    assert output.out == ""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.err)


def test_a_bar_counts_and_names_what_is_done(monkeypatch: pytest.MonkeyPatch,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    text = drawn(monkeypatch, capsys)
    assert "the third" in text
    assert " 3/10" in text
    assert "3/10 bytes" in drawn(monkeypatch, capsys, "bytes")


def test_no_bar_without_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert drawn(monkeypatch, capsys, terminal=False).strip() == ""
    assert drawn(monkeypatch, capsys, wanted=False) == ""


def test_the_text_returns_to_the_first(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress("recordings", 4) as bar:
        bar.advance(text="one")
        bar.advance()
    last = [line for line in capsys.readouterr().err.splitlines() if "2/4" in line][-1]
    assert "recordings" in last


@pytest.mark.parametrize(("unit", "lines"), [
    ("", ["p2pser: runs: 30 of 100", "p2pser: runs: 40 of 100, about 6 min 0 s left", "p2pser: runs: 100 of 100"]),
    ("bytes", ["p2pser: runs: 30 B of 100 B", "p2pser: runs: 40 B of 100 B, about 6 min 0 s left",
               "p2pser: runs: 100 B of 100 B"])])
def test_without_a_terminal_a_line_tells_once_a_minute_how_far_it_is(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], unit: str, lines: list[str]) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    now = [1000.0]
    monkeypatch.setattr("p2pser.base.progress.time.monotonic", lambda: now[0])
    with progress("runs", 100, unit=unit) as bar:  # type: ignore[arg-type]
        for second, done in ((60, 30), (119, 39), (120, 40), (179, 99), (180, 100)):  # 30 were finished before
            now[0] = 1000.0 + second
            bar(done, "the latest")
    output = capsys.readouterr()
    assert output.out == ""
    assert [line for line in output.err.splitlines() if line.strip()] == lines
