"""The recordings of a peer's last start, by digest, so that the next start notices which have changed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

from p2pser.base.atomic import PRIVATE, read_json, write_json
from p2pser.base.errors import ConfigError
from p2pser.corpora.manifest import ARRAYS
from p2pser.features.cache import Index, content_digest
from p2pser.features.federation import Federation
from p2pser.peer.folder import PeerFolder
from p2pser.peer.telemetry import Telemetry
from p2pser.run import checkpoint

Known: TypeAlias = Mapping[str, list[str]]
"""Path of a clip within its corpus -> the digest of the recording, and that of its emotion and speaker."""


@dataclass(frozen=True)
class Changes:
    """The number of clips that are new, gone, changed (in content, emotion or speaker) or renamed."""

    new: int = 0
    gone: int = 0
    changed: int = 0
    renamed: int = 0

    def __str__(self) -> str:
        """``12 are new, 1 is gone``; empty where nothing has changed."""
        return ", ".join(f"{number} {'is' if number == 1 else 'are'} {what}"
                         for what, number in asdict(self).items() if number)


def known_now(federation: Federation, me: int) -> Known:
    """Return the training clips of peer ``me``; {} where they are not recordings.

    A recording is read only where the feature cache has no digest for its size and modification time.
    """
    corpus = federation.corpus
    if corpus.name == ARRAYS or not federation.held:
        return {}
    index, unusable = Index(), {path for path, _ in federation.left_out}
    clips = [clip for k in federation.held[me] if (clip := corpus.clips[k]).path not in unusable]
    return {corpus.relative(clip): [
        index.find(clip.path) or _digest(clip.path),
        hashlib.blake2b(f"{clip.emotion}\0{clip.speaker}".encode(), digest_size=8).hexdigest()] for clip in clips}


def _digest(path: Path) -> str:
    try:
        return content_digest(path)
    except OSError:
        return ""  # removed since its features were computed


def changes(before: Known, now: Known) -> Changes:
    """Return how the present clips differ from those of the last start."""
    both = before.keys() & now.keys()
    came, went = (Counter(tuple(clips[name]) for name in clips.keys() - both) for clips in (now, before))
    renamed = (came & went).total()
    return Changes(came.total() - renamed, went.total() - renamed,
                   sum(before[name] != now[name] for name in both), renamed)


def require_consent(folder: PeerFolder, now: Known) -> None:
    """Raise ConfigError where a withdrawn recording is among the clips under another name or speaker."""
    withdrawn = set(read_json(folder.withdrawn_clips, list) or ())
    for name, (digest, _) in now.items():
        if digest in withdrawn:
            raise ConfigError(f"{name} is a recording of a speaker who is forgotten (p2pser forget), under another "
                              "name or speaker: take it out of the recordings")


def notice(folder: PeerFolder, now: Known, me: int, telemetry: Telemetry, say: Callable[[str], None]) -> None:
    """Report how the clips have changed since the last start, and write the present ones."""
    before: Known | None = read_json(folder.clips, dict)
    if before == now:
        return
    if before is not None:
        changed = changes(before, now)
        telemetry.event("clips_changed", **asdict(changed))
        resumes = "; the run goes on with them, not bit-equal to one without this change"
        say(f"peer {me}: of its clips {changed} since the last start"
            + (resumes if checkpoint.available(folder.checkpoints) else ""))
    write_json(folder.clips, now, mode=PRIVATE)


def withdraw(folder: PeerFolder, federated: Mapping[str, str]) -> None:
    """Exclude recordings from every later start, under any name. federated : path within the corpus -> digest."""
    withdrawn = read_json(folder.withdrawn_clips, list) or ()
    write_json(folder.withdrawn_clips, sorted({*withdrawn, *federated.values()}), mode=PRIVATE)
    if (before := read_json(folder.clips, dict)) is not None:
        write_json(folder.clips, {name: known for name, known in before.items() if name not in federated}, mode=PRIVATE)
