"""The measurements of all peers of a run, running or not, written for other programs: those since the last export.

Read from the peers' ``metrics.jsonl``. ``exported.json`` in the target's folder says how far each peer was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from p2pser.base.atomic import put, read_json, write_json
from p2pser.base.errors import ConfigError
from p2pser.base.frames import to_csv
from p2pser.experiments.trackers import TRACKERS, Line, News
from p2pser.peer import names
from p2pser.peer.view import FINISHED, PeerView, RunView, count, finite, look, when

TARGETS = ("csv", *TRACKERS)
STATE = "exported.json"
CSV = "metrics.csv"


def export(run: Path, to: str, out: Path | None = None) -> tuple[Path, dict[int, int]]:
    """Write what is new of a run, and return where to, and how many rounds of each peer.

    Parameters
    ----------
    run : the folder of the run. to : one of TARGETS. out : the target's folder; default: ``RUN/exports/TO``.

    Raises ConfigError where there is no run, the folder is of another run, or a package is missing; OSError where
    nothing can be written.
    """
    seen = look(run)
    place = out or run / "exports" / to
    place.mkdir(parents=True, exist_ok=True)
    if to == "csv":
        return place / CSV, _to_csv(seen, place / CSV)
    state = read_json(place / STATE, dict) or {"run": seen.name, "peers": {}}
    if not (state.get("run") == seen.name and isinstance(state.get("peers"), dict)):
        raise ConfigError(f"{place} holds the export of another run: choose another folder (--out)")
    written = {}
    for peer in seen.peers:
        news = _news(seen.name, peer, before := state["peers"].get(f"peer-{peer.peer}"))
        written[peer.peer] = len(news.lines)
        if news.lines or (news.record and news.finished and not before.get("finished")):
            record = TRACKERS[to](place, news)
            state["peers"][f"peer-{peer.peer}"] = {**_mark(_measured(peer)[-1]), "record": record,
                                                   "finished": news.finished}
            write_json(place / STATE, state)  # at once: what was written is not written twice
    return place, written


def values(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a line of metrics by name; those of a group as ``ccc/valence``."""
    numbers: dict[str, float] = {}
    for name, value in line.items():
        inner = {f"{name}/{key}": each for key, each in value.items()} if isinstance(value, Mapping) else {name: value}
        numbers |= {key: float(number) for key, each in inner.items() if not isinstance(each, bool)
                    and key not in ("peer", "round") and (number := finite(each)) is not None}
    links = line.get("links")
    if isinstance(links, Mapping):
        numbers["neighbours_alive"] = float(sum(state == "alive" for state in links.values()))
    return numbers


def _measured(peer: PeerView) -> list[Mapping[str, Any]]:
    return [line for line in peer.metrics if count(line.get("round")) is not None]


def _mark(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells a line from others: a round that is run again has another time."""
    return {"round": line["round"], "at": line["at"]}


def _news(run: str, peer: PeerView, known: object) -> News:
    """Return what was not exported yet: all lines after the one that was the last then, or all where it is gone."""
    before, metrics = known if isinstance(known, dict) else {}, _measured(peer)
    last = next((k for k, line in enumerate(metrics) if _mark(line).items() <= before.items()), None)
    lines = [Line(line["round"], at.timestamp(), values(line)) for line in metrics[0 if last is None else last + 1:]
             if (at := when(line)) is not None]
    return News(run, peer.peer, _settings(peer), lines, peer.state == FINISHED, str(before.get("record", "")),
                anew=bool(before) and last is None)


def _settings(peer: PeerView) -> dict[str, Any]:
    settings = (read_json(peer.folder / names.RUN, dict) or {}).get("settings")
    return settings if isinstance(settings, dict) else {}


def _to_csv(run: RunView, path: Path) -> dict[int, int]:
    """Write a table with a row for each peer and round; all of it, since that is cheap."""
    rows = list(_rows(run))
    put(path, to_csv(rows, ("peer", "round", "at")).encode(), pipe=True)
    return {peer.peer: sum(row["peer"] == peer.peer for row in rows) for peer in run.peers}


def _rows(run: RunView) -> Iterator[dict[str, Any]]:
    for peer in run.peers:
        for line in peer.metrics:
            if count(line.get("round")) is not None:
                yield {"peer": peer.peer, "round": line["round"], "at": line["at"], **values(line)}
