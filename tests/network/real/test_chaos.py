"""scripts/chaos for a short time: real peers under several kinds of fault keep what the network promises."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
QUICK = ("network.ping_after=0.5", "network.suspect_after=1.0", "network.dead_after=4.0", "peer.checkpoint_every=5")

SLACK = 20.0
"""How long a peer may wait beyond dead_after on a busy machine [s]; for a peer that is not lost, a minute."""


# The plan takes 21 s, the run before it that nothing disturbs 3 s.
def test_a_third_of_a_minute_of_chaos(python: list[str]) -> None:
    settings = [word for one in QUICK for word in ("--set", one)]
    call = [*python, str(ROOT / "scripts" / "chaos"), "--peers", "5", "--minutes", "0.35", "--alone", "0.05",
            "--every", "2.2", "--slack", str(SLACK), "--seeds", "5", "--links", "relays", "--json", *settings,
            "--faults", "kill,restart,stop,cut,one-way,break,delay,lose,slow,tear"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=370, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result, = json.loads(done.stdout)["runs"]
    assert result["broken"] == []
    assert result["faults"] >= 6
    assert result["models"] == [0, 1, 2, 3, 4]
    assert result["distance"] < 1e-6
    assert 0 < result["longest_wait_s"] <= 4 + SLACK
    assert result["longest_wait_s"] <= result["longest_round_s"] <= 3 * (4 + SLACK)
