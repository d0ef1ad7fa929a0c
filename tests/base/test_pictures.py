"""matplotlib and fontconfig keep what they find of the fonts where something can be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2pser.base import paths

PROGRAM = """
import os
from p2pser.base import pictures
assert pictures.new_figure(3, 2).get_size_inches().tolist() == [3, 2]
print(os.environ.get("XDG_CACHE_HOME"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="fontconfig is asked on Linux")
@pytest.mark.parametrize("home", ["/dev/null/ada", "ada"])
def test_fonts_are_found_without_a_home_that_can_be_written(tmp_path: Path, home: str) -> None:
    (tmp_path / "ada").mkdir()
    asked = tmp_path / "asked"
    (tmp_path / "bin").mkdir()
    finder = tmp_path / "bin" / "fc-list"
    finder.write_text(f'#!/bin/sh\necho "$XDG_CACHE_HOME" >> {asked}\n[ "$1" != --help ] || echo --format\n')
    finder.chmod(0o755)
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MPL"))}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env={
        **variables, "HOME": str(tmp_path / home), "P2PSER_CACHE": str(tmp_path / "cache"),
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(Path(paths.__file__).parents[2])})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "None\n"
    writable = home == "ada"
    assert set(asked.read_text().split("\n")) == {"", "" if writable else str(tmp_path / "cache")}
    assert (tmp_path / "cache" / "matplotlib").is_dir() is not writable
