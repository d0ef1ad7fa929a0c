"""What the people on the recordings have agreed to, as a manifest says it, and whose clips are left out for it.

The columns are optional. ``consent_until`` is the last day (YYYY-MM-DD) on which a clip may be used; ``purpose`` names
the purposes that were agreed to (``medical research``), of which the run's must be one; ``licence`` is kept as it is.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date

from p2pser.base.errors import CorpusError
from p2pser.config.privacy import BANNED, EXCEPTED, LAW, NAME_IT
from p2pser.corpora.folds import Split
from p2pser.corpora.manifest import Clip, Corpus
from p2pser.corpora.manifest_rows import PURPOSE, UNTIL, last_day, word


@dataclass(frozen=True)
class Consent:
    """Which clips a run may use.

    purpose : the run's; "": it names none. today : the day of the run. forgotten : speakers whose clips are left out.
    """

    purpose: str
    today: date
    forgotten: Collection[str] = ()

    def objection(self, clip: Clip) -> str | None:
        """Return why a clip is left out; None where it may be used."""
        if clip.speaker in self.forgotten:
            return "the speaker is forgotten (p2pser forget)"
        if (last := last_day(clip.extra.get(UNTIL, ""))) is not None and last < self.today:
            return "the consent to its use is over"
        purposes = _purposes(clip)
        if purposes and self.purpose not in purposes:
            named = f"not for {self.purpose}" if self.purpose else "and the run names no purpose (--purpose)"
            return f"the consent is for {' and '.join(sorted(purposes))}, {named}"
        return None

    def applied(self, corpus: Corpus, split: Split, held: Sequence[Sequence[int]]
                ) -> tuple[Corpus, Split, tuple[tuple[int, ...], ...]]:
        """Return corpus, fold and shares without the clips that may not be used.

        They stay in ``corpus.clips``, so that indices keep their meaning, and are named in ``corpus.left_out``.

        Raises CorpusError where clips are of work or education, and the run is for neither a medical nor a safety
        reason.
        """
        banned = sorted({purpose for clip in corpus.clips for purpose in _purposes(clip)} & set(BANNED))
        if banned and self.purpose not in EXCEPTED:
            raise CorpusError(f"{corpus.name} has clips whose purpose is {' and '.join(banned)}: {LAW}; {NAME_IT}")
        objections = {i: why for i in {*split.train, *split.test} if (why := self.objection(corpus.clips[i]))}

        def kept(indices: Sequence[int]) -> tuple[int, ...]:
            return tuple(i for i in indices if i not in objections)

        left_out = tuple((corpus.clips[i].path, why) for i, why in sorted(objections.items()))
        return (dataclasses.replace(corpus, left_out=(*corpus.left_out, *left_out)),
                dataclasses.replace(split, train=kept(split.train), test=kept(split.test)), tuple(map(kept, held)))


def _purposes(clip: Clip) -> frozenset[str]:
    return frozenset(each for each in re.split(r"[\s,;+|]+", word(clip.extra.get(PURPOSE, "")).lower()) if each)
