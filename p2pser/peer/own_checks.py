"""Checks of a site that need no other site: recordings, address, clock, disk and memory."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import socket
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from p2pser.base import memory
from p2pser.base.errors import P2PSERError
from p2pser.base.hosts import host_of
from p2pser.base.paths import existing
from p2pser.base.wording import counted
from p2pser.config import Config
from p2pser.corpora import combined
from p2pser.corpora.emotions import canonical, is_known, known_in
from p2pser.corpora.labels import NO_CLIPS
from p2pser.corpora.partitioning import left_out_note, partition_corpus
from p2pser.features import audio
from p2pser.features.audio import long_note
from p2pser.features.ends import early_note
from p2pser.graph.spec import Topology

WRITTEN = 64 << 20
"""Size of what a peer writes in addition to its rows: logs, features of some thousand clips [B]."""
ROWS_ON_DISK, ROWS_IN_MEMORY = 24, 16
"""Number of rows (float32) in checkpoints and model, and in memory."""
PROCESS = 500 << 20
"""Memory of a peer's process without rows [B]."""
FIRST_DAY, LAST_DAY = datetime(2026, 1, 1, tzinfo=timezone.utc), datetime(2100, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Finding:
    """The result of one check. ``fits``: it does not prevent the run; otherwise the sentence names the remedy."""

    what: str
    sentence: str
    fits: bool = True

    def document(self) -> dict[str, Any]:
        """Return the finding as plain data."""
        return {"what": self.what, "fits": self.fits, "sentence": f"{self.what}: {self.sentence}"}


def recordings(config: Config, topology: Topology, me: int) -> list[Finding]:
    """Check a site's clips and emotions; only the headers of recordings are read."""
    if _relays(config, topology, me):
        return [Finding("clips", "none: this site only relays between its neighbours")]
    try:
        partitioning = partition_corpus(config, topology.size, hub=topology.hub)
    except P2PSERError as error:
        return [Finding("clips", str(error), fits=False)]
    corpus = partitioning.corpus
    mine = [corpus.clips[index] for index in (*partitioning.held[me], *partitioning.held_out[me])]
    reasons = {clip.path: audio.reason(clip.path) for clip in mine}
    usable = [clip for clip in mine if reasons[clip.path] is None]
    left_out = [*corpus.left_out, *((path, why) for path, why in reasons.items() if why is not None)]
    paths = [clip.path for clip in usable]
    unused = "; ".join((*left_out_note(left_out), *early_note(paths), *long_note(paths)))
    if not usable:
        return [Finding("clips", f"none can be used: {unused or 'there is none'}; give another folder (--data)",
                        fits=False)]
    seconds = sum(audio.seconds(clip.path) for clip in usable)
    speakers = len({clip.speaker for clip in usable})
    many = f"{len(usable)} of {counted(speakers, 'speaker')}, {seconds:.0f} s"
    findings = [Finding("clips", many + (f"; {unused}" if unused else ""))]
    counts = Counter(clip.emotion for clip in usable if clip.emotion is not None)
    if counts:
        each = ", ".join(f"{emotion} {count}" for emotion, count in sorted(counts.items()))
        findings.append(Finding("emotions", each + _lacking(config, counts)))
    return [*findings, *_own_words(config)]


def reading(config: Config, topology: Topology, me: int) -> list[Finding]:
    """Return how a site's recordings, which fit, were read where they may mean something else; ``peer`` prints it at
    its start.
    """
    return [] if _relays(config, topology, me) else [Finding("clips", note)
                                                     for note in combined.load(config.corpus).notes]


def _relays(config: Config, topology: Topology, me: int) -> bool:
    return config.corpus.name == NO_CLIPS or (topology.hub == me and config.corpus.partition == "own")


def _lacking(config: Config, counts: Counter[str]) -> str:
    absent = [label for label in map(canonical, config.corpus.labels or ()) if label not in counts]
    return f"; none of {', '.join(absent)}: other sites must have some" if absent else ""


def _own_words(config: Config) -> list[Finding]:
    """Return what to do about each emotion whose name the other sites do not use."""
    counts = Counter(clip.emotion for clip in combined.load(config.corpus).clips if clip.emotion is not None)
    fixed = set(map(canonical, config.corpus.labels or ()))
    findings = []
    for word, count in sorted(counts.items()):
        merge = shlex.quote(f"corpus.map={word}={known_in(word) or 'anger'}")
        mend = f"to count them as another one, add for example --set {merge}"
        clips = counted(count, "clip")
        if fixed and canonical(word) not in fixed:
            findings.append(Finding("emotions", f"{clips} of {word!r} will be left out: the run learns "
                                                f"{', '.join(sorted(fixed))}; {mend}"))
        elif not fixed and not is_known(word):
            findings.append(Finding("emotions", f"{word!r} ({clips}) is an unknown name: the run learns it as a "
                                                f"separate emotion; {mend}"))
    return findings


def machine(config: Config, address: str | None, row: int, clips: int = 0) -> list[Finding]:
    """Check clock, disk, memory and this peer's address.

    address : at which neighbours dial this peer; None: they do not. row : number of parameters. clips : size of the
    features in memory [B].
    """
    return [_clock(datetime.now(timezone.utc)), _disk(config.peer.out, ROWS_ON_DISK * 4 * row + WRITTEN),
            *_memory(ROWS_IN_MEMORY * 4 * row + 2 * clips + PROCESS), *([] if address is None else [_address(address)])]


def _clock(now: datetime) -> Finding:
    shown = f"{now:%Y-%m-%d %H:%M} UTC"
    if FIRST_DAY <= now < LAST_DAY:
        return Finding("clock", shown)
    return Finding("clock", f"it shows {shown}, which is wrong: set it (timedatectl set-ntp true)", fits=False)


def _disk(out: Path, needed: int) -> Finding:
    folder = existing(out)
    try:
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("disk", f"nothing can be written to {folder} ({error.strerror}): choose another folder "
                               "(--out)", fits=False)
    shown = f"{free / 1e6:,.0f} MB free at {folder}, about {needed / 1e6:,.0f} MB needed"
    return Finding("disk", shown + ("" if free >= needed else ": make room, or choose another folder (--out)"),
                   fits=free >= needed)


def _memory(needed: int) -> list[Finding]:
    """Return the finding about memory; none where the system does not report its available memory."""
    available = memory.available()
    if available is None:
        return []
    shown = f"{available / 1e6:,.0f} MB available, about {needed / 1e6:,.0f} MB needed"
    return [Finding("memory", shown + ("" if available >= needed else ": end other programs, or take a smaller model"),
                    fits=available >= needed)]


def _address(address: str) -> Finding:
    """Check whether the host of this peer's address is known, and is this machine."""
    host = host_of(address).strip("[]")
    try:
        places = {place[0] for *_, place in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return Finding("address", f"the name {host} is not known here: if the neighbours do not know it either, give "
                                  "an IP address")
    for place in places:
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET6 if ":" in str(place) else socket.AF_INET,
                                                         socket.SOCK_DGRAM) as probe:
            probe.bind((place, 0))
            return Finding("address", f"{address}, of this machine")
    return Finding("address", f"{address} is not an address of this machine ({socket.gethostname()}): correct only "
                              "behind a router that forwards its port here")
