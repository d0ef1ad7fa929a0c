"""The notebooks of ``examples/`` run as they are, and are kept with their outputs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import nbformat
import pytest
from commands import Forked
from places import ROOT, ended, settle

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def play(folder: Path, notebook: Path) -> None:
    """Run the code cells of a notebook in a folder, in this process."""
    settle(folder)
    names: dict[str, object] = {"__name__": "notebook"}
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, str(notebook), "exec"), names)


def test_there_are_two() -> None:
    assert len(NOTEBOOKS) == 2


@pytest.mark.timeout(390)  # for a busy machine; alone it takes 15 s, of which 10 make the synthetic corpus
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(notebook: Path, tmp_path: Path) -> None:
    code, out, err = ended(Forked(partial(play, tmp_path, notebook)))
    assert code == 0, f"{out[-1000:]}\n{err[-3000:]}"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_with_small_outputs(notebook: Path) -> None:
    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell.outputs for cell in cells)
    assert notebook.stat().st_size < 100_000
