"""What an adapter is: the class that reads one corpus, with the facts about that corpus."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from p2pser.corpora.files import by_names, clips_of
from p2pser.corpora.manifest import Clip, Corpus, assemble


@dataclass(frozen=True)
class About:
    """Facts about a corpus, for a user who does not have it yet.

    ``languages`` are ISO 639-1 codes; ``names`` is an example of its file names; ``source`` says where it can be
    downloaded or requested. ``tables`` lists the corpus's own files that the adapter reads beside the recordings, and
    what they add. ``variants`` describes its other label sets or parts, by the word after the name and a colon.
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
    def short(self) -> str:
        """The title without its explanation: ``EMO-DB``."""
        return self.title.partition(",")[0]

    @property
    def line(self) -> str:
        """One line: title, languages, sizes, example of a file name."""
        return (f"{self.title} ({', '.join(self.languages)}; {self.speakers} speakers, {self.emotions} emotions, "
                f"{self.clips} clips): {self.names}")


class Adapter(ABC):
    """Reads one corpus: from file names, and tables beside the recordings, to clips.

    A subclass registers itself under its name; it is made without arguments.

    Example
    -------
    >>> @CORPORA.register("two-rooms")
    ... class TwoRooms(Adapter):
    ...     name, about = "two-rooms", About(title="Two rooms", ...)
    ...     def matches(self, path): return path.stem.startswith("room")
    ...     def load(self, data, variant=""): ...
    """

    name: ClassVar[str]
    """The value of ``corpus.name``, as it was registered."""
    about: ClassVar[About]
    """Facts about the corpus."""

    @abstractmethod
    def matches(self, path: Path) -> bool:
        """Return whether a recording is named as in this corpus."""

    @abstractmethod
    def load(self, data: Path, variant: str = "") -> Corpus:
        """Return the corpus in the folder ``data``, sub-folders included.

        ``variant`` is "" or a key of ``about.variants``. Raises CorpusError where the folder is missing, empty or
        holds no clip of the corpus, or a required table is missing.
        """

    def full_name(self, variant: str) -> str:
        """Return ``NAME`` or ``NAME:VARIANT``."""
        return f"{self.name}:{variant}" if variant else self.name


class NamedClips(Adapter):
    """A corpus whose file names (and folders) hold the speaker, the emotion and all else.

    A subclass gives ``pattern``, with a group ``emotion``, and ``clip``.
    """

    pattern: ClassVar[re.Pattern[str]]
    """What the stem of a file matches completely."""
    emotions: ClassVar[Mapping[str, str]]
    """The emotion of each code in a file name."""
    fields: ClassVar[str]
    """An example of a file name and the meaning of its parts, for the error where no file is named so."""
    split: ClassVar[str | None] = None
    """The default split; None: groups of speakers."""

    @abstractmethod
    def clip(self, path: Path, parts: re.Match[str]) -> Clip | str:
        """Return the clip of a file, given the parts of its name, or the reason why it is none."""

    def stem(self, path: Path) -> str:
        """Return the stem that ``pattern`` is compared with and that tells copies of one clip."""
        return path.stem

    def key(self, clip: Clip) -> Hashable:
        """Return a value that is the same for two copies of one clip."""
        return self.stem(clip.path)

    def parse(self, path: Path) -> Clip | str:
        """Return the clip that a file's name describes, or the reason why it describes none."""
        parts = self.pattern.fullmatch(self.stem(path))
        if not parts:
            return f"not named as in {self.about.short} (e.g. {self.about.names})"
        if parts["emotion"] not in self.emotions:
            return f"{self.about.short} has no emotion {parts['emotion']!r}"
        return self.clip(path, parts)

    def matches(self, path: Path) -> bool:
        """Return whether a recording is named as in this corpus."""
        return isinstance(self.parse(path), Clip)

    def clips(self, data: Path) -> tuple[list[Clip], list[tuple[Path, str]]]:
        """Return the clips in the folder ``data``, and the other recordings, each with the reason."""
        return by_names(data, self.parse, f"named as in {self.about.short} ({self.fields})", key=self.key)

    def load(self, data: Path, variant: str = "") -> Corpus:
        """Return the corpus in the folder ``data``, sub-folders included."""
        clips, left_out = self.clips(data)
        return assemble(self.name, clips_of(clips, self.about.clips), clips, left_out, data, split=self.split)
