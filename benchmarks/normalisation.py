"""Which statistics scale features best, and whether ``features.normalise=auto`` chooses them.

Corpora are taken as they are, and cut down to shapes in which a speaker's own statistics mislead: few clips, one or two
emotions of a speaker, a common emotion, and the shape of URDU (29 speakers, 26 of them with clips of one emotion, 17
with fewer than 10 clips). Each is trained pooled with default settings, speakers held out in four groups. Printed is
the UAR over pooled predictions, mean over seeds, each seed with a cut and folds of its own:

    python benchmarks/normalisation.py --corpus emodb --data D/emodb --seeds 3
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from p2pser.config import Config
from p2pser.evaluation.metrics import Predictions, uar_pooled
from p2pser.experiments.baselines import pooled
from p2pser.features.arrays import from_arrays
from p2pser.features.federation import Examples, federate

FOLDS = 4
Indices = NDArray[np.int64]
Cut = Callable[[Indices, int, bool, np.random.Generator], Indices]
"""(a speaker's clips in random order, the emotion meant for the speaker, whether the speaker is spared, draws) -> those
kept."""


def cuts(labels: NDArray[np.int64]) -> dict[str, tuple[Cut, float]]:
    """Return each shape's rule, with the share of speakers that it spares."""
    classes = int(labels.max()) + 1

    def few(count: int) -> Cut:
        return lambda own, emotion, spared, draws: own[:count]

    def emotions(count: int) -> Cut:
        def kept(own: Indices, emotion: int, spared: bool, draws: np.random.Generator) -> Indices:
            meant = [(emotion + 3 * k) % classes for k in range(count)]
            return own if spared else own[np.isin(labels[own], meant)]
        return kept

    def common(share: float) -> Cut:
        def kept(own: Indices, emotion: int, spared: bool, draws: np.random.Generator) -> Indices:
            first, others = own[labels[own] == emotion], own[labels[own] != emotion]
            return np.concatenate([first, others[: round(len(first) * (1 - share) / share)]])
        return kept

    def urdu(own: Indices, emotion: int, spared: bool, draws: np.random.Generator) -> Indices:
        first = own[labels[own] == emotion]
        return own if spared else first[: draws.integers(1, 10)] if draws.random() < 17 / 26 else first

    return {"whole": (few(len(labels)), 0.0), "12 clips a speaker": (few(12), 0.0), "6 clips": (few(6), 0.0),
            "3 clips": (few(3), 0.0), "1 clip": (few(1), 0.0), "one emotion a speaker": (emotions(1), 0.0),
            "one emotion, a quarter spared": (emotions(1), 0.25), "one emotion, half spared": (emotions(1), 0.5),
            "two emotions": (emotions(2), 0.0), "three emotions": (emotions(3), 0.0),
            "four emotions": (emotions(4), 0.0),
            "half of the clips one emotion": (common(0.5), 0.0), "70 % one emotion": (common(0.7), 0.0),
            "as URDU": (urdu, 3 / 29)}


def cut_down(examples: Examples, cut: Cut, spared: float, draws: np.random.Generator) -> Examples:
    """Return the examples of the clips that a cut keeps."""
    speakers = np.array(examples.speakers)
    names = draws.permutation(sorted(set(examples.speakers)))
    first = int(draws.integers(1 + int(examples.labels.max())))
    kept = []
    for place, name in enumerate(names):
        own = draws.permutation(np.flatnonzero(speakers == name))
        kept.append(cut(own, (first + place) % (1 + int(examples.labels.max())), place < round(spared * len(names)),
                        draws))
    return examples.take(np.concatenate(kept))


def uars(examples: Examples, labels: Sequence[str], seed: int) -> tuple[dict[str, float], list[str]]:
    """Return the UAR under each normalisation, and what ``auto`` chose in each fold."""
    names = np.random.default_rng(seed).permutation(sorted(set(examples.speakers)))
    parts: dict[str, list[Predictions]] = {"global": [], "speaker": [], "auto": []}
    chosen = []
    for fold in range(FOLDS):
        test = np.isin(examples.speakers, names[fold::FOLDS])
        for how, its in parts.items():
            federation = from_arrays(examples.features, [labels[label] for label in examples.labels],
                                     examples.speakers, peers=1, test=test, label_order=labels, normalise=how)
            if how == "auto":
                chosen.append(federation.normalise)
                its.append(parts[federation.normalise][-1])
            else:
                its += pooled(Config().with_settings([f"seed={seed}"]), federation).predictions
    return {how: uar_pooled(Predictions.concatenate(its)) for how, its in parts.items()}, chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="emodb")
    parser.add_argument("--data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", help="the shapes whose names contain this")
    given = parser.parse_args()
    settings = [f"corpus.name={given.corpus}", "corpus.split=none", *([f"corpus.data={given.data}"] * bool(given.data))]
    federation = federate(Config().with_settings(settings), 1)
    whole = federation.train[0]
    for name, (cut, spared) in cuts(whole.labels).items():
        if given.only and given.only not in name:
            continue
        scores: dict[str, list[float]] = {"global": [], "speaker": [], "auto": []}
        chosen: list[str] = []
        for seed in range(given.seeds):
            examples = cut_down(whole, cut, spared, np.random.default_rng(seed))
            by_how, picked = uars(examples, federation.labels, seed)
            chosen += picked
            for how, value in by_how.items():
                scores[how].append(value)
        means = {how: float(np.mean(values)) for how, values in scores.items()}
        behind = max(means["global"], means["speaker"]) - means["auto"]
        print(f"{given.corpus:10} {name:30} {len(examples):5} clips  " + "  ".join(
            f"{how} {value:.3f}" for how, value in means.items())
            + f"  {100 * behind:+5.1f} points behind, speaker in {chosen.count('speaker')} of {len(chosen)} folds",
            flush=True)


if __name__ == "__main__":
    main()
