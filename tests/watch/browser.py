"""A real browser without a window. Shared by tests and scripts/screenshots."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT = 55.0
"""Longest time of one look at a page on a busy machine [s]."""
LOADED = 3000
"""Time of the page after which it is looked at [ms]; it passes only while no answer is awaited."""


def chromium() -> str | None:
    """Return the path of Chromium; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name)) is not None), None)


def look(url: str, *options: str, width: int = 1280, height: int = 1000, dark: bool = False) -> str:
    """Open a page and return what Chromium prints."""
    program = chromium()
    assert program is not None
    shade = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0") if dark else ()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
             f"--user-data-dir={profile}", f"--window-size={width},{height}", f"--virtual-time-budget={LOADED}", *shade,
             *options, url], capture_output=True, text=True, timeout=TIMEOUT, check=True)
    return done.stdout


def document(url: str) -> str:
    """Return the page as it is after its scripts have run, as HTML."""
    return look(url, "--dump-dom")


def text(page: str) -> str:
    """Return what a reader sees of a page."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S)
    return " ".join(unescape(re.sub("<[^>]*>", " ", body)).split())


def picture(url: str, path: Path, *, width: int = 1280, height: int = 1000, dark: bool = False) -> None:
    """Write what the page looks like as PNG."""
    look(url, f"--screenshot={path}", width=width, height=height, dark=dark)


@contextmanager
def page(folder: Path) -> Iterator[str]:
    """Run ``p2pser watch --web`` and give the address of its page; interrupted at the end, it ends with exit code 0."""
    command = [sys.executable, "-m", "p2pser.cli.main", "watch", str(folder), "--web", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            url = server.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:"), server.communicate()
            yield url
        finally:
            server.send_signal(2)
            _, said = server.communicate(timeout=TIMEOUT)
    assert (server.returncode, said.splitlines()[-1]) == (0, "ended"), said
