"""What the clips of a comparison are, so that results of other clips are computed again."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path

from p2pser.config import Config
from p2pser.corpora.consent import Consent
from p2pser.corpora.manifest import Corpus
from p2pser.features.cache import Index, content_digest


def data_digest(config: Config, corpus: Corpus) -> str:
    """Return 32 hex digits over the clips of a run: names, all that is said of them, which of them may be used today,
    and the content of their recordings. A recording is read only where the feature cache does not know its digest.
    """
    consent, index = Consent(config.privacy.purpose, date.today()), Index()
    digest = hashlib.blake2b(digest_size=16)
    for clip in corpus.clips:
        facts = [corpus.relative(clip), clip.speaker, clip.emotion, clip.gender, clip.language, clip.arousal,
                 clip.valence, clip.dominance, clip.transcript, sorted(clip.extra.items()), sorted(clip.votes.items()),
                 clip.corpus, consent.objection(clip), index.find(clip.path) or _content(clip.path)]
        digest.update(json.dumps(facts).encode() + b"\n")
    return digest.hexdigest()


def _content(path: Path) -> str:
    try:
        return content_digest(path)
    except OSError:
        return ""  # it is left out
