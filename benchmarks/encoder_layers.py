"""Which layers of a speech encoder distinguish emotions, and the gain by functionals beside them.

They are compared on inner folds of training speakers only: of each outer fold (one speaker left out) the other speakers
are held out in three groups, and a ridge classifier is trained on the rest, with the best of three penalties for each
row. Printed is the mean UAR over all inner folds, with training statistics and with each speaker's own, and in how many
outer folds the inner folds rate a row above the mean of the lower two thirds:

    python benchmarks/encoder_layers.py --corpus emodb --data D/emodb --encoder DIR

``--every 4`` takes every fourth speaker's outer fold only. The layers of the upper third are computed, and cached, with
``--all-layers`` alone.
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


def layers_of(corpus: Corpus, encoder: str, every_layer: bool) -> NDArray[np.float32]:
    """Return the mean over time of each clip's layers, all or the lower two thirds: (n, layers + 1, D)."""
    count = encoders.layers_and_size(encoders.folder(encoder, None))[0]
    settings = FeatureSettings(encoder=encoder, layer_weights=(1.0,) * (count + 1) if every_layer else ())
    extract([clip.path for clip in corpus.clips], settings, progress=True)
    (store,) = clip_features.stores(settings)
    features = [store.get(cache.content_digest(clip.path)) for clip in corpus.clips]
    return np.stack([values for values in features if values is not None])


def rows(layers: NDArray[np.float32], depth: int, functionals: NDArray[np.float32]) -> Iterator[tuple[str, Row]]:
    """Yield what is compared, by name, for layers (n, layers + 1, D) of an encoder of ``depth`` layers."""
    lower = layers[:, 1 : encoders.lower(depth) + 1]
    yield "mean of the lower two thirds", [(1.0, lower.mean(axis=1))]
    if layers.shape[1] == depth + 1:
        yield "mean of all layers and the input", [(1.0, layers.mean(axis=1))]
    for layer in range(layers.shape[1]):
        yield f"layer {layer}" if layer else "the first layer's input", [(1.0, layers[:, layer])]
    for taken in (encoders.middle(depth), encoders.middle(depth)[1:], tuple(range(1, encoders.lower(depth) + 1))):
        beside: Row = [(len(taken) ** -0.5, layers[:, layer]) for layer in taken]
        yield f"layers {', '.join(map(str, taken))} side by side", beside
        if taken == encoders.middle(depth):
            yield from ((f"these and {share:g} functionals", [*beside, (share, functionals)]) for share in SHARES)


def inner_folds(speakers: NDArray[np.str_], every: int) -> Iterator[tuple[Mask, Mask]]:
    """Yield the training and the held-out clips of ``GROUPS`` inner folds of every n-th outer fold."""
    names = np.unique(speakers)
    for number, left_out in list(enumerate(names))[::every]:
        order = np.random.default_rng(number).permutation(names[names != left_out])
        for group in np.array_split(order, GROUPS):
            held = np.isin(speakers, group)
            yield ~held & (speakers != left_out), held


def uars(row: Row, labels: NDArray[np.int64], speakers: NDArray[np.str_], how: str, every: int) -> Floats:
    """Return the UAR of each inner fold under each penalty, (folds, penalties)."""
    classes = int(labels.max()) + 1
    wanted = np.eye(classes)[labels]
    by_fold = []
    for train, held in inner_folds(speakers, every):
        kernel = np.zeros((len(labels), int(train.sum())))
        for share, features in row:
            training = statistics(features[train])
            scaled = training.apply(features) if how == "global" else by_speaker(features, tuple(speakers), training)
            kernel += share**2 * scaled.astype(np.float64) @ scaled[train].T
        mean = wanted[train].mean(axis=0)
        sizes, axes = np.linalg.eigh(kernel[train])
        parts, along = axes.T @ (wanted[train] - mean), kernel[held] @ axes
        scores = [along @ (parts / (np.maximum(sizes, 0) + penalty)[:, None]) + mean for penalty in PENALTIES]
        by_fold.append([float(uar(confusion(labels[held], each.argmax(axis=1), classes))) for each in scores])
    return np.array(by_fold)


def main() -> None:
    """Print a line for each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--corpus", "--data", "--encoder"):
        parser.add_argument(option, required=True)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--all-layers", action="store_true")
    given = parser.parse_args()
    corpus = combined.load(Config().with_settings([f"corpus.name={given.corpus}", f"corpus.data={given.data}"]).corpus)
    names = sorted({str(clip.emotion) for clip in corpus.clips})
    labels = np.array([names.index(str(clip.emotion)) for clip in corpus.clips], dtype=np.int64)
    speakers = np.array([clip.speaker for clip in corpus.clips])
    computed = extract([clip.path for clip in corpus.clips], FeatureSettings(), progress=True).features
    functionals = np.stack([each for each in computed if each is not None])
    depth, layers = encoders.layers_and_size(encoders.folder(given.encoder, None))[0], layers_of(
        corpus, given.encoder, given.all_layers)
    first: dict[str, Floats] = {}
    for name, row in rows(layers, depth, functionals):
        cells = []
        for how in ("global", "speaker"):
            each = uars(row, labels, speakers, how, given.every)
            best = each[:, each.mean(axis=0).argmax()]
            by_outer = best.reshape(-1, GROUPS).mean(axis=1)
            better = int((by_outer > first.setdefault(how, by_outer)).sum())
            cells.append(f"{how} {best.mean():.4f} (better in {better} of {len(by_outer)})")
        print(f"{name:40}", *cells, flush=True)


if __name__ == "__main__":
    main()
