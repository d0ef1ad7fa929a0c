"""Rules of the house that no single room can check: sizes, light commands, help, conftest's guard."""

from __future__ import annotations

import ast
import inspect
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from inspect import get_annotations
from pathlib import Path

import pytest
from click.testing import CliRunner

import p2pser
from p2pser.cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "p2pser").rglob("*.py"))
HEAVY = ("torch", "librosa", "matplotlib", "scipy", "sklearn", "numpy", "networkx", "zmq", "pydantic", "rich")


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run this interpreter with ``arguments`` and capture what it prints."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, **options)  # type: ignore[call-overload]


def imported(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter has imported after ``code``."""
    done = run("-c", f"{code}\nimport sys; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_launcher_of_the_demo_does_without_torch() -> None:
    statements = ast.walk(ast.parse((ROOT / "p2pser/cli/demo.py").read_text(encoding="utf-8")))
    modules = sorted({str(node.module) for node in statements if isinstance(node, ast.ImportFrom)})
    assert "p2pser.peer.launch" in modules
    assert "torch" not in imported(f"import {', '.join(modules)}")


Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def definitions(path: Path) -> Iterator[tuple[str, Definition]]:
    """Yield (name, definition) of every function and class of a module: ``room/module.py Class.method``."""
    def below(node: ast.AST, prefix: str) -> Iterator[tuple[str, Definition]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Definition):
                yield f"{prefix}{child.name}", child
                yield from below(child, f"{prefix}{child.name}.")
            else:
                yield from below(child, prefix)

    yield from below(ast.parse(path.read_text(encoding="utf-8")), f"{path.relative_to(ROOT / 'p2pser')} ")


LONGER: dict[str, str] = {}
"""Files of more than 400 lines and classes of more than 300, with the reason."""


def test_a_module_is_about_one_thing() -> None:
    assert [problem for path in MODULES for problem in problems(path)] == []


def problems(path: Path) -> Iterator[str]:
    """Yield what is wrong with a module: it is too long, says nothing about itself, or defines something too long."""
    text = path.read_text(encoding="utf-8")
    name = str(path.relative_to(ROOT / "p2pser"))
    if text.count("\n") > 400 and name not in LONGER:
        yield f"{name} has more than 400 lines: split it by subject"
    if text.strip() and not ast.get_docstring(ast.parse(text)):
        yield f"{name} lacks a docstring"
    for name, node in definitions(path):
        lines, limit = size(node), 300 if isinstance(node, ast.ClassDef) else 60
        if lines > limit and name not in LONGER:
            yield f"{name} has {lines} lines, more than {limit}: split it"


def size(node: Definition) -> int:
    """Lines of a definition, its docstring counted."""
    return (node.end_lineno or 0) - node.lineno + 1


def test_exceptions_are_still_needed() -> None:
    sizes = {str(path.relative_to(ROOT / "p2pser")): path.read_text(encoding="utf-8").count("\n") - 400
             for path in MODULES}
    sizes |= {name: size(node) - 300 for path in MODULES for name, node in definitions(path)}
    assert [name for name in LONGER if sizes.get(name, 0) <= 0] == []


PUBLIC = [name for name in p2pser.__all__ if inspect.isfunction(getattr(p2pser, name))]


@pytest.mark.parametrize("name", PUBLIC)
def test_the_public_functions_explain_their_parameters(name: str) -> None:
    function = getattr(p2pser, name)
    text, parameters = inspect.getdoc(function) or "", inspect.signature(function).parameters
    assert text
    hints = get_annotations(function)
    assert hints.keys() >= {*parameters, "return"}, f"{name} is not typed"
    if len(parameters) > 3:
        assert "Parameters\n----------\n" in text, f"{name} explains its parameters in no section"
        section = text.partition("Parameters\n----------\n")[2].partition("\n\n")[0]
        explained = {word for line in section.splitlines() if re.match(r"\w[\w, ]* :", line)
                     for word in line.partition(" :")[0].split(", ")}
        assert explained == set(parameters), f"{name} explains {explained}"


def test_nothing_unfinished_and_nothing_executable_from_the_wire() -> None:
    forbidden = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b|(?<![\w.])(pickle|torch)\.loads?\(")
    found = [f"{path.relative_to(ROOT)}:{number}: {line.strip()}" for path in MODULES
             for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
             if forbidden.search(line)]
    assert found == []


def test_no_path_of_a_machine() -> None:
    folders = ("p2pser", "scripts", "benchmarks", "topologies", "docs", ".ci")
    texts = [path for folder in folders for path in (ROOT / folder).rglob("*")
             if path.is_file() and path.suffix in ("", ".py", ".yaml", ".md")]
    assert len(texts) > 5
    place = re.compile(r"/(work|root|home/\w+)/")
    assert [str(path) for path in texts if place.search(path.read_text(encoding="utf-8"))] == []


def test_the_command_line_is_light() -> None:
    assert imported("import p2pser.cli.main") & set(HEAVY) == set()


def test_help_answers_at_once() -> None:
    took = []
    for _ in range(3):
        began = processor_time_of_children()
        done = run("-m", "p2pser.cli.main", "--help")
        took.append(processor_time_of_children() - began)
        assert done.returncode == 0, done.stderr
    assert min(took) < 0.5  # of processor time, which the load of the machine does not change


def processor_time_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_shows_an_example(command: str) -> None:
    result = CliRunner().invoke(cli, [command, "--help"])
    assert result.exit_code == 0, result.output
    assert "Example" in result.output
    assert f"p2pser {command}" in result.output


def test_help_of_a_command_does_not_load_the_training_stack() -> None:
    done = run("-c", "import importlib, sys\n"
                     f"for command in {list(COMMANDS)}:\n"
                     "    importlib.import_module(f'p2pser.cli.{command}')\n"
                     "    print(command, *{'torch', 'librosa', 'matplotlib', 'sklearn'} & {*sys.modules})\n")
    assert done.stdout.splitlines() == list(COMMANDS), done.stderr


def test_packaged_files_are_there() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert (ROOT / "README.md").is_file()
    assert (ROOT / "p2pser" / "py.typed").is_file()
    for script in ("scripts/demo", "scripts/test", ".ci/run"):
        assert (ROOT / script).stat().st_mode & 0o111, f"{script} is not executable"
        assert subprocess.run(["bash", "-n", str(ROOT / script)], timeout=10).returncode == 0


def test_scripts_say_which_python_they_need(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "a folder" / "scripts")
    for name in ("setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / "a folder" / name)
    old = tmp_path / "python-of-old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(["bash", str(tmp_path / "a folder" / "scripts" / "demo")], cwd=tmp_path, timeout=20,
                          capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "PYTHON": str(old)})
    assert done.returncode == 2
    assert done.stderr.startswith("p2pser needs Python 3.10 or newer")
    assert done.stderr.count("\n") == 1


LEAKS = """
import socket, subprocess, sys, threading
kept = []
forever = threading.Event()

def test_child():
    kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))

def test_grandchild():
    program = ("import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'input()']); "
               "print(flush=True); child.wait()")
    kept.append(subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    kept[-1].stdout.readline()  # a grandchild that began later would be the next test's

def test_thread():
    threading.Thread(target=forever.wait, args=(60,), daemon=True, name="forgotten").start()

def test_socket():
    kept.append(socket.create_server(("127.0.0.1", 0)))

def test_file(tmp_path):
    kept.append(open(tmp_path / "log", "w"))
"""
TIDY = """
import os, socket, subprocess, sys, threading

def test_tidy(tmp_path):
    socket.create_server(("127.0.0.1", 0)).close()
    threading.Timer(0.3, lambda: None).start()
    subprocess.run([sys.executable, "-c", ""])
    (tmp_path / "file").write_text("closed")
    for name in ("P2PSER_CACHE", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        assert not os.environ[name].startswith(os.path.expanduser("~/."))
"""


def guarded(folder: Path, tests: str, wait: str) -> subprocess.CompletedProcess[str]:
    """Run ``tests`` under this project's conftest.py, whose guard waits for ``wait`` seconds."""
    conftest = (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")
    conftest = re.sub(r"(?m)^LEFT_BEHIND_WAIT = .*$", f"LEFT_BEHIND_WAIT = {wait}", conftest)
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_it.py").write_text(tests)
    return run("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), ".", cwd=folder)


def test_the_guard_notices_what_is_left_behind(tmp_path: Path) -> None:
    done = guarded(tmp_path, LEAKS, "0.2")
    assert done.returncode == 1, done.stdout + done.stderr
    for what in ("child process", "thread 'forgotten'", "socket", "file"):
        assert done.stdout.count(f"left behind: {what}") >= 1, done.stdout
    assert "5 passed, 5 errors" in done.stdout


def test_the_guard_lets_a_tidy_test_pass(tmp_path: Path) -> None:
    done = guarded(tmp_path, TIDY, "3.0")
    assert done.returncode == 0, done.stdout + done.stderr
