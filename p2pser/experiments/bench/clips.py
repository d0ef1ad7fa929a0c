"""Whether a copy of a corpus is that of a benchmark: digests of its clips, and of how they are dealt out.

Names count without folders and extension, since copies have other formats; recordings are not opened.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import PurePath
from typing import Any

from p2pser.base.errors import CorpusError
from p2pser.config import Config
from p2pser.corpora import combined
from p2pser.corpora.partitioning import partition_corpus, to_learn
from p2pser.experiments.bench.definition import Bench, Data
from p2pser.experiments.jobs import of_run


def fingerprints(bench: Bench, config: Config) -> Data:
    """Return the digests of a copy of the corpus under the settings of a benchmark."""
    _, corpus = to_learn(config, combined.load(config.corpus))
    by_speaker: dict[str, list[list[str]]] = defaultdict(list)
    for clip in corpus.clips:
        by_speaker[clip.speaker].append([clip.path.stem, clip.emotion or ""])
    return Data(clips={speaker: f"{len(clips)} {_digest(sorted(clips))}"
                       for speaker, clips in sorted(by_speaker.items())},
                folds={fold: _digest([_dealt(config, bench.peers, fold, seed) for seed in range(bench.seeds)])
                       for fold in bench.folds})


def _dealt(config: Config, peers: int, fold: int, seed: int) -> list[Any]:
    """Return the emotions, the test clips and each peer's clips, in the order of training."""
    parts = partition_corpus(of_run(config, seed, fold), peers)

    def names(indices: tuple[int, ...]) -> list[list[str]]:
        clips = [parts.corpus.clips[index] for index in indices]
        return [[clip.speaker, PurePath(clip.path).stem, clip.emotion or ""] for clip in clips]

    return [list(parts.labels), names(parts.split.test), [names(own) for own in parts.held]]


def _digest(tree: Any) -> str:
    return hashlib.blake2b(json.dumps(tree).encode(), digest_size=8).hexdigest()


def require_same(bench: Bench, config: Config) -> None:
    """Raise CorpusError where a copy of the corpus is not the benchmark's, or its clips are dealt out otherwise."""
    expected, where = bench.data, config.corpus.data or config.corpus.name
    _, corpus = to_learn(config, combined.load(config.corpus))
    many = sum(int(each.split()[0]) for each in expected.clips.values())
    if (len(corpus.clips), set(corpus.speakers)) != (many, set(expected.clips)):
        raise CorpusError(
            f"{where} has {len(corpus.clips)} clips of {len(corpus.speakers)} speakers, and the benchmark {bench} "
            f"{many} of {len(expected.clips)}: take {bench.source}")
    actual = fingerprints(bench, config)
    for speaker, own in expected.clips.items():
        if actual.clips[speaker] != own:
            raise CorpusError(f"{where}: the clips of speaker {speaker} have other names or emotions than those of the "
                              f"benchmark {bench}: take {bench.source}")
    for fold, own in expected.folds.items():
        if actual.folds[fold] != own:
            raise CorpusError(f"{where} has the clips of the benchmark {bench}, and in fold {fold} they are dealt out "
                              "otherwise: keep the folders of their authors, and take the newest p2pser")
