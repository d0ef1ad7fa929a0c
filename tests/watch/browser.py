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
TIMEOUT = 250.0
"""Longest time of one look at a page on a busy machine [s]."""


def chromium() -> str | None:
    """Return the path of Chromium; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name)) is not None), None)


def look(url: str, picture: Path | None = None, *, width: int = 1280, height: int = 1000, dark: bool = False,
         loaded: int = 3000) -> str:
    """Open a page, and return it as it is after its scripts have run, as HTML.

    picture : where what it looks like is written, as PNG. loaded : the time of the page after which it is looked at
    [ms]; it passes only while no answer is awaited.
    """
    program = chromium()
    assert program is not None
    more = [] if picture is None else [f"--screenshot={picture}"]
    if dark:
        more += ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
             f"--user-data-dir={profile}", f"--window-size={width},{height}", f"--virtual-time-budget={loaded}",
             "--dump-dom", *more, url], capture_output=True, text=True, timeout=TIMEOUT, check=True)
    return done.stdout


def text(page: str) -> str:
    """Return what a reader sees of a page."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S)
    return " ".join(unescape(re.sub("<[^>]*>", " ", body)).split())


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
            try:
                _, said = server.communicate(timeout=TIMEOUT)
            finally:
                server.kill()  # else it would be waited for once more, without a limit
    assert (server.returncode, said.splitlines()[-1]) == (0, "ended"), said
