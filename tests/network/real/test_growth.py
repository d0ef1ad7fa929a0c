"""A new topology file while the peers train: it takes effect at one round everywhere, and no process is restarted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sites import QUICK, Sites

Furthest = Callable[[torch.Tensor], float]


def ring(peers: int, epoch: int = 0, **more: Any) -> dict[str, Any]:
    return {"graph": {"kind": "ring", "peers": peers}, "epoch": epoch, **more}


def test_one_more_peer_joins_a_ring_while_it_trains(real: Any, furthest: Furthest, tmp_path: Path) -> None:
    config = real.config("out", "training.rounds=60", *QUICK, peers=5)
    with Sites.of(tmp_path, config, ring(4)) as sites:
        sites.start(0, 1, 2, 3)
        sites.until_round(2, peers=range(4))
        sites.write(ring(5, epoch=1))
        sites.start(4)
        sites.hangup(0, 1, 2, 3)
        sites.until_said("joins the run in", 4)
        sites.finish()
        assert sites.until_end(peers=range(5)) == dict.fromkeys(range(5), 0), str(sites.story)
        sites.until_said("5 of 5 peers agreed", *range(5))
    assert furthest(real.rows(config, range(5))) < 1e-6
    resumed = [[one["round"] for one in real.events(config, me, "resumed")] for me in range(4)]
    assert [len(rounds) for rounds in resumed] == [1] * 4
    assert len(set(map(tuple, resumed))) == 1, resumed
