"""The example plug-in, installed into a fresh folder, runs simulated and between processes; uninstalled, in neither."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import run_page
from commands import Forked
from places import ROOT, called, ended, settle

EXAMPLE = ROOT / "examples" / "p2pser-example-plugin"
CODES = {"anger": "ang", "fear": "fea", "happiness": "hap", "neutral": "neu", "sadness": "sad"}


@dataclass(frozen=True)
class Place:
    """A folder with run.yaml, wheel.yaml and recordings, and the folder into which the plug-in is installed."""

    folder: Path
    installed: Path

    def run(self, *arguments: str, plugin: bool = True) -> tuple[int | None, str, str]:
        """Run p2pser here, with the plug-in on its path or without; return exit code, output and errors."""
        return called(self.folder, *arguments, installed=(self.installed,) if plugin else ())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The plug-in, installed as pip does it, and recordings in the form of its corpus."""
    folder = tmp_path_factory.mktemp("plugin")
    source = folder / "source"  # the build writes beside the source
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    here = Place(folder / "here", folder / "installed")
    options = ("-q", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    install = subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", str(here.installed),
                              str(source)], text=True, capture_output=True)
    assert install.returncode == 0, install.stderr
    here.folder.mkdir()
    for name in ("run.yaml", "wheel.yaml"):
        shutil.copy(EXAMPLE / name, here.folder)
    made = here.run("corpus", "make", "--out", "synthetic", plugin=False)
    assert made[0] == 0, made
    recordings = here.folder / "recordings"
    recordings.mkdir()
    for number in range(1, 7):
        speaker = f"s{number:02}"
        for clip in (here.folder / "synthetic" / speaker).glob("*-[12].wav"):
            emotion, take = clip.stem.split("-")
            shutil.copy(clip, recordings / f"{speaker}_{CODES[emotion]}_{take}.wav")
    return here


def test_the_list_of_algorithms_explains_it(place: Place) -> None:
    code, out, err = place.run("algorithms", "lazy")
    assert code == 0, err
    assert "x_i <- (1 - a) z_i + a sum_j W_ij z_j" in out
    assert "How far a row moves to the mean of its neighbourhood (a)." in out


def test_a_wheel_that_is_too_small_is_refused(place: Place) -> None:
    code, _, err = place.run("topology", "show", "wheel.yaml", "--peers", "3")
    assert code == 2
    assert "4 peers or more" in err


def test_the_algorithm_has_thirty_lines_at_most() -> None:
    assert len((EXAMPLE / "p2pser_example" / "algorithm.py").read_text().splitlines()) <= 30


def test_it_runs_simulated(place: Place) -> None:
    code, _, err = place.run("simulate", "--run", "run.yaml", "--topology", "wheel.yaml", "--data", "recordings",
                             "--corpus", "diary", "--json")
    assert code == 0, err
    card = json.loads((place.folder / "runs" / "plugin" / "simulation" / "model" / "card.json").read_text())
    assert card["labels"] == ["anger", "fear", "happiness", "neutral", "sadness"]
    assert card["model"]["name"] == "softmax"
    assert card["model"]["parameters"] == {"rank": 4}
    assert card["shape"] == [12]  # level and crossings of features.parameters.parts = 6 parts


def test_it_runs_between_four_processes(place: Place) -> None:
    code, out, err = place.run("demo", "--run", "run.yaml", "--topology", "wheel.yaml", "--data", "recordings",
                               "--corpus", "diary", "--name", "processes", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert (result["peers"], result["peers_dead"], result["failures"]) == (4, [], {})
    model = place.folder / "runs" / "processes" / "peer-3" / "model"
    code, out, err = place.run("predict", str(model), "recordings", "--json")
    assert code == 0, err
    assert len(json.loads(out)["predictions"]) == 60  # six speakers, five emotions, two takes


def without(folder: Path, calls: list[list[str]]) -> None:
    """Run commands in this process, where the plug-in is not installed; print exit code and standard error of each."""
    settle(folder)
    result = []
    for arguments in calls:
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            code = run_page.run_in_process(arguments)
        result.append([code, errors.getvalue()])
    print(json.dumps(result))


def test_uninstalled_every_run_that_names_it_is_refused_with_a_sentence(place: Place) -> None:
    whole = ["--run", "run.yaml", "--topology", "wheel.yaml", "--data", "recordings", "--corpus", "diary"]
    one = ["simulate", "--topology", "ring", "--peers", "2", "--rounds", "1", "--data", "few"]
    calls = {
        "lazy": [*one, "--set", "gossip.algorithm=lazy"],
        "loudness": [*one, "--set", "features.kind=loudness"],
        "softmax": [*one, "--set", "model.name=softmax"],
        "diary": [*one, "--corpus", "diary"],
        "wheel": ["simulate", "--topology", "wheel.yaml"],
        "": ["simulate", *whole],
        " ": ["demo", *whole],
    }
    for speaker in ("s01", "s02", "s03"):
        for emotion in ("sadness", "anger"):
            few = place.folder / "few" / emotion / speaker
            few.mkdir(parents=True)
            shutil.copy(place.folder / "synthetic" / speaker / f"{emotion}-1.wav", few)
    code, out, err = ended(Forked(partial(without, place.folder, list(calls.values()))))
    assert code == 0, err
    for name, (code, said) in zip(calls, json.loads(out), strict=True):
        assert code == 2, (name, said)
        assert said.startswith("p2pser: ")
        assert said.count("\n") == 1
        assert not name.strip() or repr(name) in said, said
