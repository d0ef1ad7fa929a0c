"""``p2pser watch`` on a run of real peers: while one is waited for, and once all have ended."""

from __future__ import annotations

from contextlib import ExitStack

import browser
import pytest
from real_peers import Real, Record

from p2pser.graph.spec import load
from p2pser.peer.launch import LocalPeers


@pytest.mark.skipif(browser.chromium() is None, reason=f"no browser here: {', '.join(browser.NAMES)}")
def test_the_page_follows_a_run_from_the_first_peers_to_the_end(real: Real) -> None:
    config, topology = real.config("runs", "training.rounds=4", "peer.evaluate_every=1", peers=3), load("ring", 3, 0)
    pages: list[str] = []
    waiting: set[int] = set()
    with ExitStack() as server:
        def act(peers: LocalPeers, record: Record) -> None:
            if record.get("kind") == "waiting" and "waiting for peer 2" in record["sentence"]:
                waiting.add(record["reporter"])
                if waiting == {0, 1} and not pages:
                    url = server.enter_context(browser.page(config.peer.out / config.name))
                    pages.extend((url, browser.text(browser.look(url))))
                    peers.start(2)

        story = real.run(config, topology, act, ids=[0, 1])
        url, live = pages
        ended = browser.text(browser.look(url))
    assert set(story.exit_codes.values()) == {0}, str(story)
    assert "0 of 4 rounds are over" in live
    assert "live, " in live
    port = config.network.base_port + 2
    assert live.count(f"waits for, or goes on without: peer 2 at tcp://127.0.0.1:{port}: not heard of yet") == 2
    assert "0 … waiting" in live
    assert "3 of 3 peers agreed" in ended
    assert "as it ended, " in ended
    assert ended.count("4 of 4") == 3
    assert "after 4 rounds: " in ended
