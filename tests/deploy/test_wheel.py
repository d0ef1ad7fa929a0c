"""The wheel holds all that p2pser needs, and works outside the checkout. ``scripts/wheel`` installs it, too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # the build writes beside the source
    shutil.copytree(ROOT / "p2pser", source / "p2pser", ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source)
    options = ("-q", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "-w", str(folder), str(source)], check=True)
    (wheel,) = folder.glob("p2pser-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_every_file_of_the_package_is_in_it(unpacked: Path) -> None:
    def files(folder: Path) -> set[str]:
        found = (each.relative_to(folder).as_posix() for each in [*folder.rglob("*"), *folder.glob("topologies/*")])
        return {name for name in found if "__pycache__" not in name and (folder / name).is_file()}

    assert files(unpacked / "p2pser") == files(ROOT / "p2pser")


def test_it_shows_every_topology_outside_the_checkout(unpacked: Path, tmp_path: Path) -> None:
    work = """
import sys
from p2pser.base.paths import packaged
from p2pser.cli.main import cli
names = sorted(file.stem for file in packaged("topologies").glob("*.yaml"))
for arguments in [["--help"], ["--version"], *(["topology", "show", name] for name in names)]:
    cli.main(arguments, standalone_mode=False)
print(len(names), "topologies of", packaged(""))
"""
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    done = subprocess.run([sys.executable, "-c", work], cwd=tmp_path, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    topologies = len(list((ROOT / "topologies").glob("*.yaml")))
    assert done.stdout.splitlines()[-1] == f"{topologies} topologies of {unpacked / 'p2pser'}"
