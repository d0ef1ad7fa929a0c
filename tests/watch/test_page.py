"""The page of a run in a real browser: recorded runs, names in their files that are hostile, and a replay."""

from __future__ import annotations

import re
import struct
import threading
from datetime import timedelta
from html import unescape
from pathlib import Path

import browser
import pytest
import uvicorn
from recordings import START, write

from p2pser.base.pages import listen
from p2pser.base.paths import packaged
from p2pser.watch import server
from p2pser.watch.document import Observer

pytestmark = pytest.mark.skipif(browser.chromium() is None, reason=f"no browser here: {', '.join(browser.NAMES)}")
HOSTILE = "<img src=x onerror=\"document.title='TAKEN'\"></td></script><script>document.title='TAKEN'</script>&amp;"


def local(after: float) -> str:
    """The time of day so many seconds after the start of a recorded run."""
    return f"{(START + timedelta(seconds=after)).astimezone():%H:%M:%S}"


def test_the_page_shows_a_run_and_a_replay_of_it(tmp_path: Path) -> None:
    run = write(tmp_path / "<b onload=document.title='TAKEN'>pilot", [(0, 1), (1, 2), (2, 0)], done={1: 4}, more={
        0: [{"after": 5, "kind": "refused", "peer": 2, "reason": HOSTILE, "by_us": True}],
        1: [{"after": 5.5, "kind": "clip_left_out", "path": HOSTILE, "reason": HOSTILE}],
        2: [{"after": 6, "kind": HOSTILE, "peer": 1}, {"after": 7, "kind": "suspect", "peer": 1, "silence": 2.0}]})
    with browser.page(run) as url:
        page = browser.look(url, tmp_path / "page.png", width=900, height=700, dark=True)
        seen = browser.text(page)
        assert "3 of 3 peers agreed, UAR 0.750 on the held-out speakers" in seen
        assert "as it ended" in seen
        assert "4 of 12" in seen
        assert "after 12 rounds: 0.707, from 0.706 to 0.708" in seen
        assert f"! peer 2: not admitted: {HOSTILE}" in seen
        assert "<b onload=document.title='TAKEN'>pilot" in seen
        title = re.search("<title>(.*?)</title>", page)
        assert title is not None
        assert unescape(title[1]).endswith("pilot: 3 of 3 peers agreed, UAR 0.750 on the held-out speakers")
        assert f"peer 0 holds peer 2 for refused since {local(5)}: {HOSTILE}" in seen, "the link's title"
        assert "<img" not in page
        assert page.count("<script>") == 1
        dashed = re.findall(r'<line class="link"[^>]*stroke-dasharray="7 4"', page)
        assert len(dashed) > 1, "a silent neighbour, and the key"
        then = browser.text(browser.look(f"{url}#round=2&peer=1"))
        assert "3 of 12 rounds are over about 18 s left, then the consensus" in then
        assert "after 3 rounds, " in then
        assert "waits for, or goes on without: peer 2 at tcp://127.0.0.1:5702: refused since" in then
        data = (tmp_path / "page.png").read_bytes()
        assert struct.unpack(">II", data[16:24]) == (900, 700)
        assert len(data) > 20_000, "an empty page"


CLICKS = """
const told = document.createElement("pre"), seen = [], click = () => setTimeout(() => at("play").click());
document.body.append(told);
new MutationObserver(() => {
  const now = at("moment").textContent.split(",")[0];
  if (now === seen.at(-1)) return;
  seen.push(now);
  told.textContent = "SEEN " + seen.join(" | ") + " END";
  if (now === "as it ended") click();
  else if (seen.length === 8) click();
}).observe(at("moment"), {childList: true});
const stopped = setInterval(() => {
  if (seen.length < 8 || at("play").textContent !== "Replay") return;
  clearInterval(stopped);
  at("round").value = 3;
  at("round").dispatchEvent(new Event("input"));
  document.querySelector('g[data-peer="1"]').dispatchEvent(new Event("click"));
}, 1000);
"""
"""Plays a replay to its end, begins another and stops it, moves the slider, and chooses a peer in the graph."""


def test_a_replay_plays_and_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = packaged("watch/page.html").read_text().replace("\nfollow();\n", f"\nfollow();\n{CLICKS}")
    (tmp_path / "page.html").write_text(page)
    monkeypatch.setattr(server, "packaged", lambda name: tmp_path / "page.html")
    run = write(tmp_path / "pilot", [(0, 1), (1, 2)], rounds=4)
    with listen(0) as sock:
        how = uvicorn.Config(server.app(Observer(run)), log_level="warning", lifespan="off", ws="none")
        served = uvicorn.Server(how)
        thread = threading.Thread(target=served.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            url = f"http://127.0.0.1:{sock.getsockname()[1]}/"
            shown = browser.text(browser.look(url, loaded=15000))
        finally:
            served.should_exit = True
            thread.join()
    (seen,) = re.findall("SEEN (.*) END", shown)
    assert seen.split(" | ") == [
        "as it ended", "after 1 round", "after 2 rounds", "after 3 rounds", "after 4 rounds", "as it ended",
        "after 1 round", "after 2 rounds", "after 4 rounds"]
    assert "Replay after 4 rounds, " in shown
    assert shown.split("smallest to largest")[1].startswith(" peer 1 "), "the key of the chosen peer's curves"
