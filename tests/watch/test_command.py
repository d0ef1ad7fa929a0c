"""``p2pser watch`` as it is called: without a terminal, with wrong calls, and without its extra."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from recordings import write

from p2pser.base.errors import ConfigError
from p2pser.base.pages import listen
from p2pser.cli.main import cli


@pytest.mark.parametrize("options", [(), ("--once",)])
def test_without_a_terminal_the_state_is_printed_once(tmp_path: Path, options: tuple[str, ...]) -> None:
    run = write(tmp_path / "pilot", [(0, 1)], done={1: 3})
    watched, status = (CliRunner().invoke(cli, [name, str(run), *more]) for name, more in (
        ("watch", options), ("status", ())))
    assert (watched.exit_code, watched.output) == (1, status.output)
    assert "UAR 0.750 on the held-out speakers" in watched.output


def test_a_wrong_folder_is_told_before_anything_opens(tmp_path: Path) -> None:
    for options in (("--web",), ("--once",), ()):
        done = CliRunner().invoke(cli, ["watch", str(tmp_path), *options])
        assert isinstance(done.exception, ConfigError)
        assert "there is no run in" in str(done.exception)


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    run = write(tmp_path / "pilot", [(0, 1)])
    with listen(0) as sock:
        done = CliRunner().invoke(cli, ["watch", str(run), "--web", "--port", str(sock.getsockname()[1])])
    assert isinstance(done.exception, ConfigError)
    assert "give another port (--port)" in str(done.exception)


@pytest.mark.parametrize(("lacks", "options", "module"), [
    ("textual", (), "screen"), ("starlette", ("--web",), "server"), ("uvicorn", ("--web",), "server")])
def test_without_the_extra_one_sentence_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str,
                                                 options: tuple[str, ...], module: str) -> None:
    run = write(tmp_path / "pilot", [(0, 1)])
    for name in [name for name in sys.modules if name.split(".")[0] == lacks]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, lacks, None)
    monkeypatch.delitem(sys.modules, f"p2pser.watch.{module}", raising=False)
    monkeypatch.setattr("p2pser.cli.watch.terminal", lambda: True)
    done = CliRunner().invoke(cli, ["watch", str(run), *options])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception) == (f"p2pser watch needs {lacks}, of the extra watch: pip install 'p2pser[watch]'; "
                                   "p2pser status prints the state without it")
