"""The code blocks of README and guides run as they are written, each page in a folder of its own."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest
import run_page
from commands import Forked
from places import ROOT, called, ended, settle

PAGES = [ROOT / "README.md", ROOT / "docs" / "tutorial.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]


def play(folder: Path, page: Path) -> None:
    settle(folder)
    run_page.run(page)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pages may assume: ``my-clips/`` (EMOTION/SPEAKER/clip.wav), ``clip.wav``, and the model of a small run."""
    folder = tmp_path_factory.mktemp("given")
    made = called(folder, "corpus", "make", "--out", "all")
    assert made[0] == 0, made
    for speaker in ("s01", "s02", "s03", "s04"):
        for clip in sorted((folder / "all" / speaker).glob("*.wav")):
            emotion = folder / "my-clips" / clip.stem.rpartition("-")[0] / speaker
            emotion.mkdir(parents=True, exist_ok=True)
            shutil.copy(clip, emotion / clip.name)
    shutil.copy(folder / "all" / "s11" / "sadness-3.wav", folder / "clip.wav")
    shutil.rmtree(folder / "all")
    run = called(folder, "simulate", "--peers", "2", "--rounds", "3", "--no-baselines", "--name", "demo")
    assert run[0] == 0, run
    (folder / "runs" / "demo" / "simulation").rename(folder / "runs" / "demo" / "peer-0")  # where p2pser demo has it
    return folder


@pytest.mark.timeout(390)  # for a busy machine; alone each page takes less than a minute
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page(page: Path, given: Path, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    if "<!-- given: model clips -->" in page.read_text(encoding="utf-8"):
        shutil.copytree(given, folder)
    else:
        folder.mkdir()
    code, out, err = ended(Forked(partial(play, folder, page)))
    assert code == 0, f"{page}\n{out[-2000:]}\n{err[-4000:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_is_not_run_says_why(page: Path) -> None:
    for block in run_page.blocks(page):
        if block.language in ("python", "console"):
            assert all(len(note) > 25 for note in block.notes if note.startswith("not run:")), block


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_a_failing_block_fails_its_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n\n```console\n$ p2pser topology show nonsense\n```\n")
    code, _, err = ended(Forked(partial(play, tmp_path, page)))
    assert code == 1
    assert "line 5: 'p2pser topology show nonsense' ended with exit code 2, not 0" in err


def test_blocks_are_read_as_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text('text\n\n<!-- not run: a reason -->\n<!-- exit 2 -->\n'
                    '```console\n$ p2pser a \\\n    b\nout\n$ c\n```\n'
                    '\n    ```yaml title="run.yaml"\n    seed: 3\n    ```\n')
    first, second = run_page.blocks(page)
    assert (first.language, first.line, first.runs, first.exit_code) == ("console", 5, False, 2)
    assert list(first.commands()) == ["p2pser a b", "c"]
    assert (second.title, second.text, second.runs) == ("run.yaml", "seed: 3", True)
