"""The speed of features on one core, and the accuracy of models that use them.

Speed is that of reading, resampling and computing clips, in times real time, cold and from the cache, beside
openSMILE's sets (where the extra is installed) and a plain librosa loop that computes the same kinds of contours, each
by a call of its own. ``--accuracy`` adds the UAR of scikit-learn's SVC and MLP on the corpus's default folds, with each
normalisation: (a) the mean over folds of the recall over the classes present, (b) over the pooled predictions.

    python benchmarks/features.py --corpus emodb --data emodb/wav [--clips 100] [--accuracy] [--kind KIND] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

import numpy as np

from p2pser.base.errors import ConfigError
from p2pser.config import FeatureSettings
from p2pser.corpora import loading as corpora
from p2pser.corpora.folds import Split, folds
from p2pser.corpora.manifest import Corpus
from p2pser.features import audio, clip_features
from p2pser.features.extraction import extract
from p2pser.features.normalisation import by_speaker, from_sums, sums

RATE = 16000
REPEATS = 3
OTHERS = ("egemaps", "compare", "plain librosa")
"""Baselines: openSMILE's sets and the plain loop."""
SEEDS = 3


def plain(path: Path) -> np.ndarray:
    """Return the vector of a clip by librosa's functions one after the other, each with a transform of its own."""
    import librosa

    signal, _ = librosa.load(path, sr=RATE)
    more = {"y": signal, "sr": RATE, "hop_length": 160}
    cepstrum = librosa.feature.mfcc(**more, n_mfcc=20)
    contours = [
        cepstrum, librosa.feature.delta(cepstrum), librosa.feature.chroma_stft(**more),
        librosa.power_to_db(librosa.feature.melspectrogram(**more, n_mels=64)),
        librosa.feature.rms(y=signal, hop_length=160), librosa.feature.spectral_centroid(**more),
        librosa.feature.spectral_bandwidth(**more), librosa.feature.spectral_rolloff(**more),
        librosa.feature.spectral_flatness(y=signal, hop_length=160), librosa.feature.spectral_contrast(**more),
        librosa.feature.zero_crossing_rate(signal, hop_length=160),
        librosa.yin(signal, fmin=60, fmax=600, sr=RATE, hop_length=160)[None],
    ]
    rows = [statistic(contour, axis=1) for contour in contours for statistic in (np.mean, np.std, np.min, np.max)]
    return np.concatenate(rows)


def speed(paths: Sequence[Path], kinds: Sequence[str]) -> dict[str, object]:
    """Return times real time (wall and processor) of each kind, of the cache and of the plain loop, and the ratios.

    All take turns, ``REPEATS`` times, and the medians count, so that other work on the machine affects all alike.
    """
    seconds = sum(audio.seconds(path) for path in paths)

    def computing(settings: FeatureSettings) -> Callable[[], object]:
        clip_features.compute(audio.read(paths[0], RATE), settings)  # imports and filter banks are not timed
        return lambda: [clip_features.compute(audio.read(path, RATE), settings) for path in paths]

    works: dict[str, Callable[[], object]] = {kind: computing(FeatureSettings(kind=kind)) for kind in kinds}
    plain(paths[0])
    works["plain librosa"] = lambda: [plain(path) for path in paths]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["P2PSER_CACHE"] = folder
        extract(paths, FeatureSettings(), workers=1)
        works["from the cache"] = lambda: extract(paths, FeatureSettings(), workers=1)
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
        for _ in range(REPEATS):
            for name, work in works.items():
                wall, processor = time.perf_counter(), time.process_time()
                work()
                took[name].append((time.perf_counter() - wall, time.process_time() - processor))
    result: dict[str, object] = {"clips": len(paths), "seconds": seconds}
    processors = {}
    for name, times in took.items():
        wall, processor = (statistics.median(column) for column in zip(*times))
        processors[name] = processor
        result[name] = {"wall": seconds / wall, "processor": seconds / processor}
        print(f"{name:24s} {seconds / processor:8.0f} x real time of processor time ({seconds / wall:.0f} x by the "
              "clock)", file=sys.stderr)
    ours = processors["functionals"]
    result["functionals_against"] = {name: other / ours for name, other in processors.items() if name in OTHERS}
    result["cache_against"] = {name: other / processors["from the cache"] for name, other in processors.items()
                               if name in (*OTHERS, "functionals")}
    for what in ("functionals_against", "cache_against"):
        ratios = ", ".join(f"{name} {ratio:.1f}" for name, ratio in result[what].items())  # type: ignore[attr-defined]
        print(f"{'functionals' if what[0] == 'f' else 'from the cache'}: times as fast as {ratios}", file=sys.stderr)
    return result


def recall(truth: np.ndarray, guess: np.ndarray) -> float:
    return float(np.mean([np.mean(guess[truth == label] == label) for label in np.unique(truth)]))


def accuracy(corpus: Corpus, matrix: np.ndarray) -> dict[str, dict[str, float]]:
    """Return the UAR, both ways, of each classifier and normalisation."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are chosen, not reached
    truth = np.array([clip.emotion for clip in corpus.clips])
    speakers = [clip.speaker for clip in corpus.clips]
    own = by_speaker(matrix, speakers, None)

    def svc(seed: int) -> Any:
        return SVC(C=3, gamma=1 / (3 * matrix.shape[1]), class_weight="balanced")

    def mlp(seed: int) -> Any:
        return MLPClassifier((128,), alpha=1.0, learning_rate_init=1e-3, max_iter=60, random_state=seed)

    def scaled(fold: Split, how: str) -> np.ndarray:
        return own if how == "speaker" else from_sums(sums(matrix[list(fold.train)])).apply(matrix)

    result = {}
    for how in ("speaker", "global"):
        for name, make, seeds in (("svc", svc, 1), ("mlp", mlp, SEEDS)):
            mean, pooled = [], []
            for seed in range(seeds):
                guess = np.empty_like(truth)
                parts = []
                for fold in folds(corpus, "auto"):
                    train, test = list(fold.train), list(fold.test)
                    values = scaled(fold, how)
                    model = make(seed)
                    model.fit(values[train], truth[train])
                    guess[test] = model.predict(values[test])
                    parts.append(recall(truth[test], guess[test]))
                mean.append(float(np.mean(parts)))
                pooled.append(recall(truth, guess))
            result[f"{name}, {how}"] = {"mean_over_folds": statistics.mean(mean), "pooled": statistics.mean(pooled)}
            print(f"{corpus.name}: {name} with {how} statistics: UAR {statistics.mean(mean):.3f} (mean over folds), "
                  f"{statistics.mean(pooled):.3f} (pooled)", file=sys.stderr)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="synthetic")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--clips", type=int, default=100, help="clips to time")
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--kind", default="functionals", help="kind of features of --accuracy")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    corpus = corpora.load(options.corpus, options.data)
    result: dict[str, object] = {"corpus": corpus.name, "version": corpus.version}
    if options.accuracy:
        extraction = extract([clip.path for clip in corpus.clips], FeatureSettings(kind=options.kind), progress=True)
        for path, reason in extraction.left_out:
            sys.exit(f"{path}: {reason}")
        result["uar"] = accuracy(corpus, np.stack([values for values in extraction.features if values is not None]))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    step = max(1, len(corpus.clips) // options.clips)
    paths = [clip.path for clip in corpus.clips][::step][: options.clips]
    kinds = ["functionals", "covariance", "dynamics", "logmel", "mfcc", "chroma"]
    try:
        clip_features.settings_key(FeatureSettings(kind="egemaps+compare"))
        kinds += ["egemaps", "compare"]
    except ConfigError as error:
        print(f"without openSMILE: {error}", file=sys.stderr)
    result["times_real_time"] = speed(paths, kinds)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
