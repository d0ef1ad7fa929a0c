"""Names of the files in a peer's folder that its viewers read too."""

from __future__ import annotations

RUN = "run.json"
STARTS = "starts.json"
FINISHED = "finished.json"
LOCK = "lock"
