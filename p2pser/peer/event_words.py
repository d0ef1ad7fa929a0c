"""A line of ``events.jsonl`` as one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from p2pser.base.errors import printable
from p2pser.base.wording import peer_list
from p2pser.run.account import in_words

LONGEST = 400
"""Characters of the longest sentence."""


def sentence(event: Mapping[str, Any]) -> str:
    """Return one line about an event. Its text may come from neighbours or files: control characters are removed."""
    kind, who = str(event.get("kind")), f"peer {event.get('peer')}"
    sentences = {"suspect": f"{who} was silent for {_seconds(event, 'silence')}",
                 "dead": f"{who} is lost, after {_seconds(event, 'silence')} of silence",
                 "up": f"{who} is connected", "alive": f"{who} is heard again", "rejoined": f"{who} has come back",
                 "apart": f"{who} goes on without this peer", "bye": f"{who} has left",
                 "refused": f"{who}: not admitted", "banned": f"{who} is banned",
                 "struck": f"a message of {who} did not fit", "left": "this peer has left", "slow": f"{who} is slow",
                 "listening": f"started, listens at {event.get('endpoint')}",
                 "waiting": str(event.get("sentence") or "waiting"),
                 "paused": f"this process did not run for {_seconds(event, 'seconds')}",
                 "joined": f"joined the run with the state of peer {event.get('host')}",
                 "resumed": f"resumes at round {event.get('round')}",
                 "statistics": "the statistics are agreed",
                 "clip_left_out": f"{event.get('path')} is left out", "finished": _finished(event),
                 "incomplete": f"it ended without {_peers(event.get('missing'))}"}
    line = sentences.get(kind, kind.replace("_", " "))
    detail = event.get("problem") or event.get("reason") or ("" if kind == "waiting" else event.get("sentence")) or ""
    return printable(f"{line}: {detail}" if detail else line, LONGEST)


def _finished(event: Mapping[str, Any]) -> str:
    try:
        return f"has finished: {in_words(event)}"
    except KeyError:
        return "has finished"


def _seconds(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    return f"{value:.1f} s" if isinstance(value, (int, float)) else "some time"


def _peers(ids: object) -> str:
    return peer_list(ids) if isinstance(ids, list) else "some peers"
