"""The script that takes the pictures of the documentation."""

from __future__ import annotations

import runpy
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("textual")
Image = pytest.importorskip("PIL.Image")

SCRIPT = Path(__file__).parents[2] / "scripts" / "screenshots"


def test_a_new_folder_for_the_pictures_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import browser

    async def terminal(run: Path) -> str:
        return "<svg/>"

    def look(url: str, path: Path, **size: Any) -> None:
        Image.new("RGB", (4, 4)).save(path)

    monkeypatch.setattr(browser, "chromium", lambda: "chromium")
    monkeypatch.setattr(browser, "page", lambda run: nullcontext("http://127.0.0.1/"))
    monkeypatch.setattr(browser, "look", look)
    monkeypatch.setattr(sys, "argv", ["screenshots", "--run", str(tmp_path), "--out", str(tmp_path / "a" / "new")])
    main = runpy.run_path(str(SCRIPT))["main"]
    main.__globals__["terminal"] = terminal
    main()
    assert sorted(path.name for path in (tmp_path / "a" / "new").iterdir()) == ["watch-page.png", "watch-terminal.png"]
    assert capsys.readouterr().out.count("kB") == 2
