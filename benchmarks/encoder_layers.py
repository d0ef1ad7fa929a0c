"""Which layers of a speech encoder tell emotions, and what functionals add to them.

They are compared on inner folds of training speakers only: of each outer fold (one speaker left out) the other speakers
are held out in three groups, and a ridge classifier is trained on the rest, with the best of three penalties for each
row. Printed is the mean UAR over all inner folds, with training statistics and with each speaker's own, and in how many
outer folds the inner folds rate a row above the mean of all layers:

    python benchmarks/encoder_layers.py --corpus emodb --data D/emodb --encoder DIR

All layers of the encoder are computed, and cached.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from p2pser.config import Config, FeatureSettings
from p2pser.corpora import combined
from p2pser.corpora.manifest import Corpus
from p2pser.evaluation.metrics import confusion, uar
from p2pser.features import cache, clip_features, encoders
from p2pser.features.extraction import extract
from p2pser.features.normalisation import by_speaker, statistics

PENALTIES = (100.0, 300.0, 1000.0)
GROUPS = 3
SHARES = (0.1, 0.3, 0.5, 1.0)
"""Factors of the functionals beside the encoder's features."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Row = list[tuple[float, NDArray[np.float32]]]
"""Features with the factors by which they are multiplied once they are scaled."""


def layers_of(corpus: Corpus, encoder: str) -> NDArray[np.float32]:
    """Return the mean over time of each clip's layers, (n, layers + 1, D)."""
    count = encoders.layers_and_size(encoders.folder(encoder, None))[0]
    settings = FeatureSettings(encoder=encoder, layer_weights=(1.0,) * (count + 1))
    extract([clip.path for clip in corpus.clips], settings, progress=True)
    (store,) = clip_features.stores(settings)
    found = [store.get(cache.content_digest(clip.path)) for clip in corpus.clips]
    return np.stack([values for values in found if values is not None])


def rows(layers: NDArray[np.float32], functionals: NDArray[np.float32]) -> Iterator[tuple[str, Row]]:
    """Yield what is compared, by name."""
    top = layers.shape[1] - 1
    lower = layers[:, 1 : 1 - (-2 * top // 3)].mean(axis=1)
    yield "mean of all layers and the input", [(1.0, layers.mean(axis=1))]
    yield "mean of the lower two thirds", [(1.0, lower)]
    for layer in range(top + 1):
        yield f"layer {layer}" if layer else "the first layer's input", [(1.0, layers[:, layer])]
    for share in SHARES:
        yield f"lower two thirds and {share:g} functionals", [(1.0, lower), (share, functionals)]


def inner_folds(speakers: NDArray[np.str_]) -> Iterator[tuple[Mask, Mask]]:
    """Yield the training and the held-out clips of ``GROUPS`` inner folds of each outer fold in turn."""
    names = np.unique(speakers)
    for number, left_out in enumerate(names):
        order = np.random.default_rng(number).permutation(names[names != left_out])
        for group in np.array_split(order, GROUPS):
            held = np.isin(speakers, group)
            yield ~held & (speakers != left_out), held


def uars(row: Row, labels: NDArray[np.int64], speakers: NDArray[np.str_], how: str) -> Floats:
    """Return the UAR of each inner fold under each penalty, (folds, penalties)."""
    classes = int(labels.max()) + 1
    wanted = np.eye(classes)[labels]
    found = []
    for train, held in inner_folds(speakers):
        kernel = np.zeros((len(labels), int(train.sum())))
        for share, features in row:
            training = statistics(features[train])
            scaled = training.apply(features) if how == "global" else by_speaker(features, tuple(speakers), training)
            kernel += share**2 * scaled.astype(np.float64) @ scaled[train].T
        mean = wanted[train].mean(axis=0)
        sizes, axes = np.linalg.eigh(kernel[train])
        parts, along = axes.T @ (wanted[train] - mean), kernel[held] @ axes
        scores = [along @ (parts / (np.maximum(sizes, 0) + penalty)[:, None]) + mean for penalty in PENALTIES]
        found.append([float(uar(confusion(labels[held], each.argmax(axis=1), classes))) for each in scores])
    return np.array(found)


def main() -> None:
    """Print a line for each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--corpus", "--data", "--encoder"):
        parser.add_argument(option, required=True)
    given = parser.parse_args()
    corpus = combined.load(Config().with_settings([f"corpus.name={given.corpus}", f"corpus.data={given.data}"]).corpus)
    names = sorted({str(clip.emotion) for clip in corpus.clips})
    labels = np.array([names.index(str(clip.emotion)) for clip in corpus.clips], dtype=np.int64)
    speakers = np.array([clip.speaker for clip in corpus.clips])
    computed = extract([clip.path for clip in corpus.clips], FeatureSettings(), progress=True).features
    functionals = np.stack([each for each in computed if each is not None])
    first: dict[str, Floats] = {}
    for name, row in rows(layers_of(corpus, given.encoder), functionals):
        cells = []
        for how in ("global", "speaker"):
            each = uars(row, labels, speakers, how)
            best = each[:, each.mean(axis=0).argmax()]
            by_outer = best.reshape(-1, GROUPS).mean(axis=1)
            better = int((by_outer > first.setdefault(how, by_outer)).sum())
            cells.append(f"{how} {best.mean():.4f} (better in {better} of {len(by_outer)})")
        print(f"{name:40}", *cells, flush=True)


if __name__ == "__main__":
    main()
