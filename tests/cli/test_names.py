"""Names of files, people and emotions in any script, or in bytes that are no text, on terminals of any encoding."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from calls import call, furnish
from commands import Command, write_in

from p2pser.cli.output import print_table

NAMES = ("M\u00fcller", "\U0001f600", "\U00020bb7", os.fsdecode(b"M\xfcller"), "[old]", "[/x]", ":star:", "-a", "a b",
         "%s")
"""Names of folders; some are no text, some are markup to the library that prints tables."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return furnish(tmp_path_factory.mktemp("names"))


@pytest.fixture(autouse=True)
def here(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").symlink_to(place / "model")


@pytest.mark.parametrize("name", NAMES)
def test_recordings_lie_below_a_folder_of_any_name(place: Path, name: str) -> None:
    shutil.copytree(place / "clips", Path(name, "clips"))
    data, out = str(Path(name, "clips")), io.StringIO()
    assert call("features", f"--data={data}", "--features", "logmel", "--json", out=out)[0] == 0
    found = json.loads(out.getvalue())
    assert (found["clips"], found["left_out"]) == (8, [])
    code, said = call("predict", "model", "--json", "--csv", "out.csv", "--", data, out=(answers := io.StringIO()))
    assert (code, "Traceback" in said) == (0, False), said
    assert len(json.loads(answers.getvalue())["predictions"]) == 8


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("json_too", [False, True])
def test_a_terminal_shows_names_that_its_encoding_lacks(
        place: Path, encoding: str, json_too: bool, tmp_path: Path) -> None:
    for name in NAMES[:4]:
        shutil.copytree(place / "clips" / "anger", Path("clips", name))
    with Command("predict", "model", "clips", *["--json"] * json_too,
                 change=partial(write_in, encoding, tmp_path / "out")) as done:
        _, err = done.communicate()
    assert (done.returncode, "Traceback" in err) == (0, False), err
    shown = (tmp_path / "out").read_bytes()
    if json_too:
        answers = json.loads(shown.decode(encoding))["predictions"]
        assert {Path(one["path"]).parent.name for one in answers} == set(NAMES[:4])
    else:
        assert len(shown.splitlines()) == 16


def test_a_name_neither_breaks_its_line_nor_commands_the_terminal(place: Path) -> None:
    for name in ("a\nb.wav", "a\x1b]0;b\x07.wav"):
        shutil.copy(next((place / "clips" / "anger").iterdir()), name)
    Path("a\tb.wav").write_bytes(b"")
    names = ("a\nb.wav", "a\x1b]0;b\x07.wav", "a\tb.wav")
    code, said = call("predict", "model", *names, out=(out := io.StringIO()))
    lines = out.getvalue().splitlines()
    assert (code, [line.split("  ")[0] for line in lines]) == (2, [r"a\nb.wav", r"a\x1b]0;b\x07.wav"])
    assert r"p2pser: a\tb.wav: it is empty" in said.splitlines()
    call("predict", "model", *names, "--json", out=(out := io.StringIO()))
    assert [each["path"] for each in json.loads(out.getvalue())["predictions"]] == list(names[:2])


def test_the_labels_of_a_foreign_model_do_not_command_the_terminal(place: Path) -> None:
    label = "an\x1b]0;b\x07\u009bger"
    shutil.copytree(place / "model", "foreign")
    card = Path("foreign", "card.json")
    card.write_text(card.read_text().replace('"anger"', json.dumps(label)))
    shutil.copytree(place / "clips", "clips")
    Path("clips", "anger").rename(Path("clips", label))
    for more in ([], ["--json"], ["--csv", "rows.csv"]):
        code, said = call("evaluate", "foreign", "--data", "clips", "--all", "--known-labels", *more,
                          out=(out := io.StringIO()))
        assert code == 0, said
        assert all(line.isprintable() for line in (out.getvalue() + said).splitlines())
        if more == ["--json"]:
            assert label in json.loads(out.getvalue())["labels"]
        else:
            assert r"an\x1b]0;b\x07\x9bger" in out.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_a_table_shows_names_as_they_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not name.isprintable():
        pytest.skip("no table holds names that are no text: their clips are left out")
    print_table((name, "x"), [(name, name)], title=name)
    assert capsys.readouterr().out.count(name) == 4


def test_a_disk_that_is_full_is_named(place: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-m", "p2pser", "corpus", "list"], stdout=full, stderr=subprocess.PIPE,
                              check=False)
    assert (done.returncode, done.stderr.decode()) == (1, "p2pser: cannot write: no space is left on the disk\n")


def test_standard_input_that_is_closed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    code, said = call("predict", "model", "-")
    assert (code, "standard input, -, is closed" in said) == (2, True)
