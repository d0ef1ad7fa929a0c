"""What an adapter is, and what it says of its corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from p2pser.corpora.manifest import Corpus


@dataclass(frozen=True)
class About:
    """What there is to know of a corpus before one has it.

    ``languages`` are ISO 639-1 codes; ``names`` shows how its recordings are named; ``source`` says where to get it
    or whom to ask. ``tables`` says which of the corpus's own files the adapter reads beside the recordings, and for
    what. ``variants`` are its other label sets or parts, by what is written after the name and a colon.
    """

    title: str
    languages: tuple[str, ...]
    speakers: str
    clips: int
    emotions: int
    names: str
    licence: str
    source: str
    reference: str
    tables: str = ""
    variants: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def line(self) -> str:
        """One line: title, languages, how much there is."""
        return (f"{self.title} ({', '.join(self.languages)}; {self.speakers} speakers, {self.emotions} emotions, "
                f"{self.clips} clips): {self.names}")


class Adapter(Protocol):
    """A corpus's module: from names of files, and tables beside them, to clips."""

    @property
    def ABOUT(self) -> About:
        """What there is to know of the corpus."""

    def matches(self, path: Path, /) -> bool:
        """Return whether a recording is named as in this corpus."""

    def load(self, data: Path, variant: str = "", /) -> Corpus:
        """Return the corpus in the folder ``data``, sub-folders included.

        ``variant`` is "" or a key of ``ABOUT.variants``. Raises CorpusError where the folder is missing, empty or
        holds no clip of the corpus, or a table that is needed is not there.
        """
