"""The difficulty of the synthetic corpus: six figures, each with its target range.

All are UAR on unseen speakers, the mean over the default folds (groups of speakers), of scikit-learn's SVC (RBF
kernel, C = 10), with each speaker's own statistics unless stated otherwise. Also: local-only training where peers hold
several speakers, and the time that the corpus takes to make.

    python benchmarks/synthetic.py [--seed 0] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import recall_score
from sklearn.svm import SVC

from p2pser.config import FeatureSettings
from p2pser.corpora import synthetic
from p2pser.corpora.folds import Split, folds
from p2pser.corpora.manifest import Corpus
from p2pser.corpora.partitions import partition
from p2pser.corpora.prosody import DIMENSIONS
from p2pser.features import audio, clip_features
from p2pser.features.extraction import extract
from p2pser.features.normalisation import by_speaker, from_sums, sums

TARGETS = {
    "speaker": (0.80, 0.92),
    "global": (0.55, 0.75),
    "local-only": (0.0, 0.40),
    "mean MFCC": (0.0, 0.50),
    "duration": (0.0, 0.45),
    "true prosody": (0.0, 0.95),
}
"""Target range of each figure."""

Matrix = NDArray[np.floating]


def uar(train: Matrix, train_labels: NDArray[np.str_], test: Matrix, test_labels: NDArray[np.str_]) -> float:
    """Return the UAR of an SVC; where training has a single label, that label is predicted."""
    if len(set(train_labels)) == 1:
        predicted = np.repeat(train_labels[:1], len(test_labels))
    else:
        predicted = SVC(C=10).fit(train, train_labels).predict(test)
    return float(recall_score(test_labels, predicted, average="macro", labels=np.unique(test_labels)))


def pooled(split: Split, matrix: Matrix, labels: NDArray[np.str_], *, common: bool = False) -> float:
    """Return the UAR of one model on all training clips; ``common``: scaled by training statistics."""
    train, test = list(split.train), list(split.test)
    scale: Callable[[Matrix], Matrix] = from_sums(sums(matrix[train])).apply if common else np.asarray
    return uar(scale(matrix[train]), labels[train], scale(matrix[test]), labels[test])


def local(split: Split, matrix: Matrix, labels: NDArray[np.str_], corpus: Corpus, peers: int,
          *, common: bool = False) -> float:
    """Return the mean UAR of ``peers`` models, each on its own speakers only."""
    train, test = np.array(split.train), list(split.test)
    shares = partition([corpus.clips[index] for index in train], "speaker", peers, 0)
    parts = [Split("", tuple(train[share]), tuple(test), (), True) for share in shares]
    return float(np.mean([pooled(part, matrix, labels, common=common) for part in parts]))


def speakers_of(split: Split, speakers: list[str]) -> set[str]:
    """Return the speakers of a fold's training clips."""
    return {speakers[index] for index in split.train}


def measure(corpus: Corpus) -> dict[str, float]:
    """Return every figure of a corpus."""
    settings = FeatureSettings()
    extraction = extract([clip.path for clip in corpus.clips], settings)
    if extraction.left_out:
        raise SystemExit(f"left out: {extraction.left_out[0]}")
    matrix = np.array(extraction.features, dtype=np.float64)
    labels = np.array([clip.emotion for clip in corpus.clips])
    speakers = [clip.speaker for clip in corpus.clips]
    names = clip_features.names(settings)
    columns = [k for k, name in enumerate(names) if name.startswith("mfcc.") and name.endswith(".mean")]
    seconds = np.log([[audio.seconds(clip.path)] for clip in corpus.clips])
    true = np.array([[float(clip.extra[name]) for name in DIMENSIONS] for clip in corpus.clips])
    own = {name: np.asarray(by_speaker(values, speakers, None), dtype=np.float64)
           for name, values in (("all", matrix), ("mfcc", matrix[:, columns]), ("seconds", seconds), ("true", true))}
    splits = folds(corpus, "auto")
    training_speakers = min(len(speakers_of(split, speakers)) for split in splits)

    def mean(figure: Callable[[Split], float]) -> float:
        return float(np.mean([figure(split) for split in splits]))

    return {
        "speaker": mean(lambda split: pooled(split, own["all"], labels)),
        "global": mean(lambda split: pooled(split, matrix, labels, common=True)),
        "local-only": mean(lambda split: local(split, own["all"], labels, corpus, training_speakers)),
        "mean MFCC": mean(lambda split: pooled(split, own["mfcc"], labels)),
        "duration": mean(lambda split: pooled(split, own["seconds"], labels)),
        "true prosody": mean(lambda split: pooled(split, own["true"], labels)),
        "local-only, 8 peers": mean(lambda split: local(split, own["all"], labels, corpus, 8)),
        "local-only, global": mean(lambda split: local(split, matrix, labels, corpus, training_speakers, common=True)),
        "mean MFCC, global": mean(lambda split: pooled(split, matrix[:, columns], labels, common=True)),
        "duration, global": mean(lambda split: pooled(split, seconds, labels, common=True)),
        "true prosody, global": mean(lambda split: pooled(split, true, labels, common=True)),
    }


def main() -> int:
    """Print the figures; return 1 where a figure misses its target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["P2PSER_CACHE"] = str(Path(folder, "cache"))
        began = time.perf_counter()
        corpus = synthetic.generate(Path(folder, "corpus"), options.seed)
        took = time.perf_counter() - began
        length = sum(audio.seconds(clip.path) for clip in corpus.clips)
        figures = measure(corpus)
    met = {name: low <= figures[name] <= high for name, (low, high) in TARGETS.items()}
    if options.json:
        print(json.dumps({"seed": options.seed, "clips": len(corpus.clips), "seconds": round(length, 1),
                          "made_s": round(took, 2), "uar": figures, "met": met}))
    else:
        print(f"seed {options.seed}: {len(corpus.clips)} clips, {length:.0f} s of speech, made in {took:.1f} s")
        for name, value in figures.items():
            line = f"  {name:22s} {value:.3f}"
            if name in TARGETS:
                low, high = TARGETS[name]
                line += f"  target {low:.2f} to {high:.2f}: {'met' if met[name] else 'MISSED'}"
            print(line)
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
