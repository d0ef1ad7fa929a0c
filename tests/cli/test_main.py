"""The group of commands: exit codes, lazy imports, errors as one sentence."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from p2pser import __version__
from p2pser.base import version
from p2pser.base.errors import ConfigError, P2PSERError
from p2pser.cli import main as main_module
from p2pser.cli.main import COMMANDS, cli, main

Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]


def run(monkeypatch: Patch, *arguments: str) -> int:
    """Call ``main`` as the console script does; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["p2pser", *arguments])
    try:
        main()
    except SystemExit as leave:
        return int(leave.code or 0)
    return 0


def with_command(monkeypatch: Patch, fails: BaseException) -> None:
    """Make ``p2pser keys`` a command that raises ``fails``."""
    @click.command()
    def keys() -> None:
        raise fails

    module = ModuleType("p2pser.cli.keys")
    module.keys = keys  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "p2pser.cli.keys", module)


def test_help_lists_every_command_and_imports_none() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    assert "Example: p2pser demo" in result.output
    for name, line in COMMANDS.items():
        assert name in result.output
        assert line.split(".")[0][:40] in " ".join(result.output.split())


def test_version() -> None:
    result = CliRunner().invoke(cli, ["--version"])
    assert (result.exit_code, result.output.split()[-1]) == (0, __version__)


def test_unknown_command_is_a_wrong_call(monkeypatch: Patch, capsys: Capture) -> None:
    assert run(monkeypatch, "gossip") == 2
    captured = capsys.readouterr()
    assert "gossip" in captured.err
    assert captured.out == ""


def test_unknown_option_is_a_wrong_call(monkeypatch: Patch, capsys: Capture) -> None:
    assert run(monkeypatch, "--nonsense") == 2
    assert "--nonsense" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(ConfigError("training.lr = -1 is not above 0"), 2),
                                             (P2PSERError("the run failed because of the weather"), 1)])
def test_an_error_of_ours_is_one_sentence_and_its_exit_code(monkeypatch: Patch, capsys: Capture,
                                                            error: P2PSERError, code: int) -> None:
    with_command(monkeypatch, error)
    assert run(monkeypatch, "keys") == code
    captured = capsys.readouterr()
    assert captured.err == f"p2pser: {error}\n"
    assert captured.out == ""


def test_interrupted(monkeypatch: Patch, capsys: Capture) -> None:
    with_command(monkeypatch, KeyboardInterrupt())
    assert run(monkeypatch, "keys") == 130
    assert capsys.readouterr().err.strip() == "p2pser: interrupted"


def test_a_bug_is_not_hidden(monkeypatch: Patch) -> None:
    with_command(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        run(monkeypatch, "keys")


def test_a_listed_command_comes_from_the_module_of_its_name(monkeypatch: Patch) -> None:
    with_command(monkeypatch, ConfigError("never"))
    command = cli.get_command(click.Context(cli), "keys")
    assert command is main_module.importlib.import_module("p2pser.cli.keys").keys
    assert cli.get_command(click.Context(cli), "no-such") is None


def test_the_package_is_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "p2pser", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: python -m p2pser" in done.stdout


def test_help_imports_no_heavy_library() -> None:
    program = ("import sys; from p2pser.cli.main import main; sys.argv = ['p2pser', '--help']\n"
               "try:\n    main()\nexcept SystemExit:\n    print(sorted(sys.modules))")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = set(ast.literal_eval(done.stdout.splitlines()[-1]))
    assert "click" in modules
    assert not modules & {"torch", "numpy", "scipy", "librosa", "pydantic", "zmq", "networkx", "rich", "yaml"}


def test_two_distributions_over_the_same_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p2pser-0.1.0.dist-info").mkdir()
    assert not version.installed_twice(tmp_path)
    assert not version.installed_twice(tmp_path / "missing")
    (tmp_path / "p2pser_predict-0.1.0.dist-info").mkdir()
    assert version.installed_twice(tmp_path)
    monkeypatch.setattr(main_module, "installed_twice", lambda: True)
    outcome = CliRunner().invoke(cli, ["settings"])
    assert outcome.exit_code == 0
    assert outcome.stderr.startswith("p2pser: p2pser and p2pser-predict are both installed here, over the same files")


def test_a_log_on_a_full_disk_or_without_a_reader_changes_no_exit_code() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full", "wb") as full, os.fdopen(writer, "wb") as unread:
        for log in (full, unread):
            call = [sys.executable, "-m", "p2pser.cli.main", "status", "no-run-is-here"]
            assert subprocess.run(call, stderr=log).returncode == 2


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.EACCES, 2)])
def test_a_disk_that_is_full_when_a_peer_starts_is_no_wrong_call(
        monkeypatch: Patch, capsys: Capture, tmp_path: Path, number: int, code: int) -> None:
    """A service manager tries exit code 1 again, and 2 never."""
    def refuse(path: Path, *, folder: bool) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("p2pser.cli.kinds.require_place", refuse)
    assert run(monkeypatch, "peer", "--id", "0", "--out", str(tmp_path)) == code
    assert f"cannot write '{tmp_path}': {os.strerror(number)}; choose another place" in capsys.readouterr().err
