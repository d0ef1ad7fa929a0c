"""Runs on a Ray cluster: the same results as on one machine, also where a machine dies; and what is refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from p2pser.base.errors import ConfigError
from p2pser.base.version import __version__
from p2pser.cli.compare import compare as command
from p2pser.config import Config
from p2pser.experiments import cluster, pool
from p2pser.experiments.jobs import Job
from p2pser.experiments.planning import plan
from p2pser.graph import spec

RAY = (str(Path(sys.executable).with_name("ray")),)
ENVIRONMENT = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}


@pytest.fixture(scope="module")
def tones(spoken_tones: Callable[[int], Path]) -> Path:
    """Three emotions of four speakers."""
    return spoken_tones(4)


@pytest.fixture
def settings(tones: Path) -> list[str]:
    return ["training.rounds=3", "training.local_steps=2", "model.hidden=[8]", "features.kind=logmel",
            "features.n_mels=16", "features.seconds=0.4", "model.name=cnn2d", "corpus.split=group:2",
            "corpus.name=folder", f"corpus.data={json.dumps(str(tones))}"]


class Head:
    """A cluster on this machine: its head, and one more node, each with one core."""

    def __init__(self) -> None:
        said = self._call("start", "--head", "--port=0", "--num-cpus=1", "--include-dashboard=false")
        self.address = re.findall(r"--address='([^']+)'", said)[0]
        self.node = subprocess.Popen([*RAY, "start", f"--address={self.address}", "--num-cpus=1", "--block"],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)

    def _call(self, *words: str) -> str:
        return subprocess.run([*RAY, *words], check=True, capture_output=True, text=True, env=ENVIRONMENT).stdout

    def end(self) -> None:
        """End all processes of the cluster."""
        self._call("stop", "--force")
        self.node.wait(30)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    made = Head()
    yield made
    made.end()


DRIVER = """
import sys
from pathlib import Path
from p2pser.config import Config
from p2pser.experiments import pool
from p2pser.experiments.planning import plan
from p2pser.graph import spec

address, out, *settings = sys.argv[1:]
pool.run(plan(Config().with_settings(settings), [spec.load("ring", 3)], out=Path(out), seeds=2), processes=address,
         done=lambda job, stored: print("finished", flush=True))
"""
"""Runs on the cluster, in a process of its own: what Ray opens it keeps open."""


def test_a_cluster_that_loses_a_machine_gives_the_same_results(settings: list[str], tmp_path: Path, head: Head) -> None:
    config = Config().with_settings(settings)
    pool.run(plan(config, [spec.load("ring", 3)], out=tmp_path / "alone", seeds=2), processes=1)
    with subprocess.Popen([sys.executable, "-c", DRIVER, head.address, str(tmp_path / "over"), *settings],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        for _ in range(2):
            assert "finished" in driver.stdout.readline()
        head.node.kill()
        said, errors = driver.communicate()
    assert driver.returncode == 0, errors
    results = [{path.name: {**json.loads(path.read_text()), "wall_s": None}
                for path in (tmp_path / name / "runs").iterdir()} for name in ("alone", "over")]
    assert len(results[0]) == 16
    assert results[1] == results[0]
    assert said.count("finished") == 14


def test_an_error_on_a_machine_has_its_name(settings: list[str], tmp_path: Path, head: Head) -> None:
    driver = subprocess.run([sys.executable, "-c", """
import sys
from p2pser.config import Config
from p2pser.experiments import cluster
from p2pser.experiments.jobs import Job
task = Job("pooled", "", 0, 0), Config().with_settings(sys.argv[2:]), None, 3, None
print(list(cluster.computed([task], sys.argv[1])))
""", head.address, *settings, "corpus.data=/nowhere"], capture_output=True, text=True)
    assert driver.returncode
    assert re.search(r"CorpusError: on the machine \S+ of the cluster: .*/nowhere", driver.stderr)


def test_a_machine_with_another_version_is_named() -> None:
    with pytest.raises(ConfigError, match=rf"has p2pser {__version__}, and this one 0\.0\.1: install the same"):
        cluster.execute("0.0.1", ())


def test_without_ray_the_extra_is_named(tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    options = ["--corpus", "folder", "--data", str(tones), "--peers", "3", "--topology", "ring", "--seeds", "1",
               "--set", "corpus.split=group:2", "--out", str(tmp_path)]
    outcome = CliRunner().invoke(command, [*options, "--cluster", "auto"])
    assert isinstance(outcome.exception, ConfigError)
    assert "pip install 'p2pser[cluster]'" in str(outcome.exception)
    outcome = CliRunner().invoke(command, [*options, "--cluster", "auto", "--workers", "2"])
    assert outcome.exit_code == 2
    assert "give one of them" in outcome.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "a head", "auto"])
def test_no_cluster_at_an_address(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where auto looks for a cluster
    with pytest.raises(ConfigError, match=r"no Ray cluster answers at .*ray start --head"):
        list(cluster.computed([(Job("pooled", "", 0, 0), Config(), None, 3, None)], address))
