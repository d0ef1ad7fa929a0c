"""Every command with hostile arguments and files: exit code 2 and one sentence, before anything long has begun."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click
import pytest
from calls import call, commands, furnish, nothing_long

from p2pser.cli.kinds import Target
from p2pser.cli.main import cli

LONG = "x" * 5000


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return furnish(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch, place: Path, tmp_path: Path) -> None:
    """Call in a folder of the test's own, with links to the place's content."""
    nothing_long(monkeypatch)
    monkeypatch.chdir(tmp_path)
    for path in place.iterdir():
        (tmp_path / path.name).symlink_to(path)


DATA = ("--corpus", "auto", "--data", "clips.csv")
RUN = ("--peers", "4", *DATA)
BASES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("peer",): ("--id", "0", *RUN), ("demo",): RUN, ("simulate",): RUN, ("compare",): ("--topology", "ring", *RUN),
    ("audit",): ("--before", *RUN), ("crossval",): RUN, ("crosscorpus",): ("--corpus", "auto=clips.csv"),
    ("features",): DATA, ("evaluate",): ("model", *DATA), ("predict",): ("model", "clips"),
    ("listen",): ("model", "--raw"), ("export",): ("model", "--onnx", "out.onnx"),
    ("forget",): ("a", "--id", "0", *RUN), ("keys",): ("--id", "0"), ("topology", "show"): ("ring",),
    ("topology", "compare"): ("ring", "star"), ("topology", "plot"): ("ring",), ("corpus", "scan"): ("clips",),
    ("corpus", "describe"): ("auto=clips.csv",), ("corpus", "fetch"): ("emodb", "--yes"),
    ("corpus", "make"): ("--out", "made"), ("corpus", "split"): ("auto=clips.csv", "--peers", "2", "--out", "sites"),
}
NUMBERS = ("nan", "inf", "1e999", "", "[1,", "1\n2", LONG)
PLACES = ("file/below", "/proc/x", "a\0b", "", LONG)
TEXTS = ("", "a\0b")
NUMERIC = (click.types.IntRange, click.types.FloatRange, click.types.IntParamType, click.types.FloatParamType)


def test_every_option_of_every_command_refuses_what_it_cannot_mean(place: Path) -> None:
    wrong, calls = [], 0
    for path, command in commands(cli):
        if isinstance(command, click.Group):
            continue
        for option in command.params:
            if not isinstance(option, click.Option) or option.is_flag:
                continue
            values = NUMBERS if isinstance(option.type, NUMERIC) else \
                PLACES if isinstance(option.type, Target) else TEXTS
            for value in values:
                code, said = call(*path, *BASES.get(path, ()), f"{option.opts[0]}={value}")
                calls += 1
                if code != 2 or not said.strip() or len(said) > 1500:
                    wrong.append((path, option.opts[0], value[:20], code, said[-200:]))
    assert not wrong
    assert calls >= 300


@pytest.mark.parametrize("arguments", [
    ("simulate", *RUN, "--set", "training.lr=[1,"), ("simulate", *RUN, "--set", "training.lr=@x"),
    ("simulate", *RUN, "--set", "training.lr=.inf"), ("simulate", *RUN, "--set", "network.dead_after=.inf"),
    ("simulate", *RUN, "--set", "network.dead_after=1e300"), ("simulate", *RUN, "--set", "gossip.algorithm=dfedagv"),
    ("simulate", *RUN, "--kill", "99@3"), ("simulate", *RUN, "--slow", "1:nan"),
    ("simulate", *RUN, "--set", "model.width=0.25*99999999999"), ("demo", *RUN, "--kill", "99@3"),
    ("compare", "--topology", "ring", *RUN, "--tune", "training.lr=[,0.1"),
    ("crossval", *RUN, "--features", "nope"), ("audit", "--before", *RUN, "--shadow", "nope"),
    ("peer", "--id", "0", *RUN, "--set", "network.secret_key=/nope"),
    ("predict", "model", "clips", "--window", "1e9"), ("predict", "model", "clips", "--silence", "5"),
    ("predict", "model", "clips", "--window", "0.1", "--hop", "1e-6"), ("listen", "model", "--raw", "--hop", "1e-6"),
    ("predict", "model", "clips", "--enrol", "nope"), ("listen", "model", "--raw", "--device", "x"),
    ("keys", "--peers", "1000000000"), ("topology", "show", "ring", "--peers", "1000000000"),
    ("corpus", "describe", "auto=clips.csv", "--seed", "-1"), ("simulate", *RUN, "--run", "/dev/zero")])
def test_calls_that_were_taken_or_refused_late(place: Path, arguments: tuple[str, ...]) -> None:
    code, said = call(*arguments)
    assert (code, "Traceback" in said) == (2, False), said


@pytest.mark.parametrize("arguments", [
    ("predict", "nope", "nope.wav", "--plot", "x.foo"), ("evaluate", "nope", "--data", "nope", "--plot", "x"),
    ("topology", "plot", "nope", "--out", "x.jpg"), ("topology", "compare", "nope", "--plot", "png"),
    ("export", "nope", "--onnx", "x.json")])
def test_the_ending_of_an_output_is_checked_before_anything_is_read(place: Path, arguments: tuple[str, ...]) -> None:
    code, said = call(*arguments)
    assert (code, "has another ending: let its name end in ." in said) == (2, True), said


def test_an_anchor_bomb_is_counted_before_it_is_spread(place: Path) -> None:
    lines = ["a: &a [" + ",".join("x" * 10) + "]"]
    lines += [f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi")]
    Path("bomb.yaml").write_text("\n".join(lines))
    for arguments in (("simulate", *RUN, "--run", "bomb.yaml"), ("topology", "show", "bomb.yaml")):
        code, said = call(*arguments)
        assert (code, "stands for more than" in said) == (2, True), said


@pytest.mark.parametrize(("changes", "says"), [
    ({"labels": ["a", "a"]}, "differ"), ({"shape": [16, 10**9]}, "shape"),
    ({"model": {"name": "cnn2d", "hidden": [10**5, 10**5]}}, "bytes of parameters"),
    ({"training": "[" * 3000 + "]" * 3000}, "card.json")])
def test_a_model_directory_is_not_believed(place: Path, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    document = json.loads((place / "model" / "card.json").read_text())
    shutil.copytree(place / "model", tmp_path / "hostile")
    text = json.dumps({**document, **changes}).replace('"[[', "[[").replace(']]"', "]]")
    (tmp_path / "hostile" / "card.json").write_text(text)
    code, said = call("predict", "hostile", "clips")
    assert (code, says in said, "Traceback" in said) == (2, True, False), said
