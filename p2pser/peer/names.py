"""Names of the files in a peer's folder that both the peer and those who look at its folder read."""

from __future__ import annotations

RUN = "run.json"
STARTS = "starts.json"
FINISHED = "finished.json"
LOCK = "lock"
