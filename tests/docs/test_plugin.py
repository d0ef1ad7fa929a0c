"""The example plug-in, installed into a fresh folder, runs simulated and between processes; uninstalled, in neither."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "p2pser-example-plugin"
CODES = {"anger": "ang", "fear": "fea", "happiness": "hap", "neutral": "neu", "sadness": "sad"}


@dataclass(frozen=True)
class Place:
    """A folder with run.yaml, wheel.yaml and recordings, and the folder into which the plug-in is installed."""

    folder: Path
    installed: Path

    def run(self, *arguments: str, plugin: bool = True) -> subprocess.CompletedProcess[str]:
        """Run p2pser here, with the plug-in on its path or without."""
        return self.python("-m", "p2pser", *arguments, plugin=plugin)

    def python(self, *arguments: str, plugin: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Python here, with the plug-in on its path or without."""
        path = [str(ROOT), *([str(self.installed)] if plugin else [])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
        return subprocess.run([sys.executable, *arguments], cwd=self.folder, env=environment, text=True,
                              capture_output=True)


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
    assert made.returncode == 0, made.stderr
    recordings = here.folder / "recordings"
    recordings.mkdir()
    for number in range(1, 7):
        speaker = f"s{number:02}"
        for clip in (here.folder / "synthetic" / speaker).glob("*-[12].wav"):
            emotion, take = clip.stem.split("-")
            shutil.copy(clip, recordings / f"{speaker}_{CODES[emotion]}_{take}.wav")
    return here


def test_the_list_of_algorithms_explains_it(place: Place) -> None:
    run = place.run("algorithms", "lazy")
    assert run.returncode == 0, run.stderr
    assert "x_i <- (1 - a) z_i + a sum_j W_ij z_j" in run.stdout
    assert "How far a row moves to the mean of its neighbourhood (a)." in run.stdout


def test_a_wheel_that_is_too_small_is_refused(place: Place) -> None:
    run = place.run("topology", "show", "wheel.yaml", "--peers", "3")
    assert run.returncode == 2
    assert "4 peers or more" in run.stderr


def test_the_algorithm_has_thirty_lines_at_most() -> None:
    assert len((EXAMPLE / "p2pser_example" / "algorithm.py").read_text().splitlines()) <= 30


def test_it_runs_simulated(place: Place) -> None:
    run = place.run("simulate", "--run", "run.yaml", "--topology", "wheel.yaml", "--data", "recordings",
                    "--corpus", "diary", "--json")
    assert run.returncode == 0, run.stderr
    card = json.loads((place.folder / "runs" / "plugin" / "simulation" / "model" / "card.json").read_text())
    assert card["labels"] == ["anger", "fear", "happiness", "neutral", "sadness"]
    assert card["model"]["name"] == "softmax"
    assert card["model"]["parameters"] == {"rank": 4}
    assert card["shape"] == [12]  # level and crossings of features.parameters.parts = 6 parts


def test_it_runs_between_four_processes(place: Place) -> None:
    run = place.run("demo", "--run", "run.yaml", "--topology", "wheel.yaml", "--data", "recordings",
                    "--corpus", "diary", "--name", "processes", "--json")
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert (result["peers"], result["peers_dead"], result["failures"]) == (4, [], {})
    model = place.folder / "runs" / "processes" / "peer-3" / "model"
    predicted = place.run("predict", str(model), "recordings", "--json")
    assert predicted.returncode == 0, predicted.stderr
    assert len(json.loads(predicted.stdout)["predictions"]) == 60  # six speakers, five emotions, two takes


WITHOUT = """
import contextlib, io, json, sys
from p2pser.cli.main import main

answers = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["p2pser", *arguments]
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            main()
        except SystemExit as end:
            answers.append([end.code, errors.getvalue()])
print(json.dumps(answers))
"""
"""Runs several commands in one process and prints exit code and standard error of each."""


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
    run = place.python("-c", WITHOUT, json.dumps(list(calls.values())), plugin=False)
    assert run.returncode == 0, run.stderr
    for name, (code, said) in zip(calls, json.loads(run.stdout), strict=True):
        assert code == 2, (name, said)
        assert said.startswith("p2pser: ")
        assert said.count("\n") == 1
        assert not name.strip() or repr(name) in said, said
