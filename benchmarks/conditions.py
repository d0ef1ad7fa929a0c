"""How often recordings are reported as outside of the training's recording conditions, fold by fold: held-out clips as
they are, and the same clips in the band of a telephone and 20 dB lower.

    python benchmarks/conditions.py --corpus emodb --data D/emodb
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable

import numpy as np
from scipy.signal import butter, sosfiltfilt

from p2pser.base import seeding
from p2pser.config import Config
from p2pser.corpora import combined
from p2pser.corpora.folds import folds
from p2pser.features import audio, conditions
from p2pser.features.normalisation import Float32

RATE = 16000


def main() -> None:
    """Print a line for each version of the clips."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--data", required=True)
    given = parser.parse_args()
    corpus = combined.load(Config().with_settings([f"corpus.name={given.corpus}", f"corpus.data={given.data}"]).corpus)
    telephone = butter(6, [300, 3400], "bandpass", fs=RATE, output="sos")
    versions: dict[str, Callable[[Float32], Float32]] = {
        "as they are": lambda signal: signal, "telephone": lambda signal: sosfiltfilt(telephone, signal),
        "20 dB lower": lambda signal: 0.1 * signal}
    signals = [audio.read(clip.path, RATE) for clip in corpus.clips]
    for version, changed in versions.items():
        counts: Counter[str] = Counter()
        tested = 0
        for fold in folds(corpus, "auto"):
            train = sorted(fold.train)
            drawn = seeding.generator(0, "recording conditions").permutation(len(train))[:conditions.MOST]
            known = conditions.Conditions.of(np.array([(RATE, *conditions.measured(signals[train[place]], RATE))
                                                       for place in drawn]))
            assert known is not None
            for index in fold.test:
                outside = known.outside(*conditions.measured(changed(signals[index]), RATE))
                counts.update(["outside"] * bool(outside) + [what.partition(" (")[0] for what in outside])
                tested += 1
        print(f"{given.corpus}, {version}: " + ", ".join(
            f"{what} {number} of {tested} ({100 * number / tested:.1f} %)" for what, number in counts.items()))


if __name__ == "__main__":
    main()
