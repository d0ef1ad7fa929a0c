"""A site that has lost its key comes back with another one: the others read the topology file again, and go on."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from commands import Command, hold_rounds

from p2pser.network import keys

QUICK = ("network.ping_after=0.3", "network.suspect_after=1.0", "network.dead_after=3.0", "network.start_timeout=60")
EVERYBODY = range(3)
ODD = 2
Furthest = Callable[[torch.Tensor], float]


class Sites:
    """Peers as commands of their own, with a topology file that names their keys; slow until ``slowly`` is removed."""

    def __init__(self, folder: Path, config: Any) -> None:
        self.folder, self.run, self.file = folder, folder / "run.yaml", folder / "sites.yaml"
        self.run.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
        self.pairs = {i: keys.make() for i in EVERYBODY}
        self.running: dict[int, Command] = {}
        (folder / "slowly").touch()
        self.write()

    def write(self) -> None:
        peers = {i: {"key": pair.public} for i, pair in self.pairs.items()}
        document = {"graph": {"kind": "ring", "peers": 3}, "peers": peers}
        self.file.write_text(yaml.safe_dump(document), encoding="utf-8")
        for i, pair in self.pairs.items():
            (self.folder / f"key-{i}").unlink(missing_ok=True)
            keys.write_key_pair(self.folder / f"key-{i}", pair)

    def start(self, me: int) -> None:
        if me in self.running:
            self.running[me].close()
        self.running[me] = Command("peer", "--id", str(me), "--topology", str(self.file), "--run", str(self.run),
                                   "--set", f"network.secret_key={self.folder / f'key-{me}'}",
                                   change=functools.partial(hold_rounds, self.folder))

    def said(self, me: int, words: str) -> None:
        lines = []
        for line in self.running[me].stderr:
            lines.append(line)
            if words in line:
                return
        pytest.fail(f"peer {me} did not say {words}: {''.join(lines)}")


def test_a_new_key_of_an_old_peer_needs_no_restart_of_the_others(real: Any, furthest: Furthest, tmp_path: Path) -> None:
    config = real.config("out", "training.rounds=120", "training.local_steps=1", *QUICK, peers=3)
    sites = Sites(tmp_path, config)
    try:
        for me in EVERYBODY:
            sites.start(me)
        for me in EVERYBODY:
            sites.said(me, "starts with round 0")
        sites.running[ODD].send_signal(signal.SIGKILL)
        sites.running[ODD].communicate()
        for me in (0, 1):
            sites.said(me, f"peer {ODD} is DEAD")
        sites.pairs[ODD] = keys.make()
        sites.write()
        for me in (0, 1):
            sites.running[me].send_signal(signal.SIGHUP)
            sites.said(me, f"another address or key of peer {ODD}")
        sites.start(ODD)
        sites.said(ODD, "joins the run in round")
        (tmp_path / "slowly").unlink()
        said = {me: one.communicate()[1] for me, one in sites.running.items()}
        assert {me: one.returncode for me, one in sites.running.items()} == dict.fromkeys(EVERYBODY, 0), said
    finally:
        for one in sites.running.values():
            one.close()
    assert furthest(real.rows(config, EVERYBODY)) < 1e-6
