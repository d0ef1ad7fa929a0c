"""Folders of runs as peers leave them, made without running any."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

START = datetime(2026, 1, 1, 10, 0, tzinfo=timezone.utc)
ROUNDS = 12
SECONDS = 2.0
"""What a round takes."""


def write(out: Path, edges: Iterable[tuple[int, int]], *, rounds: int = ROUNDS, done: Mapping[int, int] | None = None,
          more: Mapping[int, list[dict[str, Any]]] | None = None, only: Iterable[int] | None = None,
          finished: bool = True) -> Path:
    """Write the folder of a run over a graph, and return it.

    done : rounds that a peer has done, where not all. more : further events of a peer, each with the seconds ``after``
    the start. only : the peers that have a folder here. finished : whether those that have done all have ended.
    """
    links: dict[int, list[int]] = {}
    for i, j in edges:
        links.setdefault(i, []).append(j)
        links.setdefault(j, []).append(i)
    for i in sorted(links if only is None else only):
        folder, over = out / f"peer-{i}", (done or {}).get(i, rounds)
        folder.mkdir(parents=True)
        events = [{"after": 0.0, "kind": "listening", "endpoint": f"tcp://127.0.0.1:{5700 + i}", "incarnation": 1,
                   "neighbours": {j: f"tcp://127.0.0.1:{5700 + j}" for j in links[i]}},
                  *({"after": 0.5 + j / 100, "kind": "up", "peer": j, "incarnation": 1} for j in links[i]),
                  *(more or {}).get(i, ())]
        ended = finished and over == rounds
        summary = {"peers": len(links), "took_part": len(links), "agreed": len(links), "uar": 0.75, "model": "m"}
        if ended:
            events += [{"after": 1 + rounds * SECONDS, "kind": "left", "reason": "done"},
                       {"after": 1 + rounds * SECONDS, "kind": "finished", **summary}]
            (folder / "finished.json").write_text(json.dumps(summary))
        lines = [{"at": moment(1 + SECONDS * (k + 1)), "peer": i, "round": k, "loss": 1.5 / (k + 1) + i / 100,
                  "distance": 0.2 * 0.8**k, "bytes_sent": 1000 * (k + 1) * len(links[i]),
                  "uar": 0.25 + 0.5 * k / rounds - i / 1000} for k in range(over)]
        (folder / "run.json").write_text(json.dumps({"settings": {"training.rounds": rounds}}))
        (folder / "lock").touch()
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "events.jsonl").write_text("".join(
            json.dumps({"at": moment(event["after"]), **event}) + "\n"
            for event in sorted(events, key=lambda event: event["after"])))
    return out


def moment(after: float) -> str:
    """Return the time so many seconds after the start, as telemetry writes it."""
    return (START + timedelta(seconds=after)).isoformat(timespec="milliseconds")
