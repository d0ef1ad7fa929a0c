"""Recordings that are too long to be one utterance with one emotion."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from p2pser.base.errors import CorpusError
from p2pser.base.wording import duration
from p2pser.features import audio

LONGEST = 120
"""The longest recording that is taken for one utterance [s]: ``predict`` gives one label to no longer one."""

LEAST = 500
"""Bytes of a second of the most compressed speech: a file with fewer for ``LONGEST`` is not opened."""


def long_note(recordings: Iterable[Path]) -> tuple[str, ...]:
    """Return a note on those of the recordings that are longer than an utterance, if any: how many, and the longest."""
    lengths: dict[Path, float] = {}
    for path in recordings:
        with contextlib.suppress(CorpusError, OSError):
            if path.stat().st_size > LEAST * LONGEST and (seconds := audio.seconds(path)) > LONGEST:
                lengths[path] = seconds
    if not lengths:
        return ()
    longest = max(lengths, key=lambda path: lengths[path])
    lasts, it = ("recording lasts", "it") if len(lengths) == 1 else ("recordings last", "each")
    return (f"{len(lengths)} {lasts} longer than {duration(LONGEST).removesuffix(' 0 s')}, and {it} counts as one clip "
            f"with one emotion: cut it into utterances (the longest, {longest}: {duration(lengths[longest])})",)
